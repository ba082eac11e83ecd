import collections
import dataclasses
import json

from apo_jax.data.reports import SourceReport
from apo_jax.data.sources import fingerprint, load_data, side_of
from tests import tiny
from tests.data.source_files import (
  QUERIES,
  SIDES,
  failure,
  load,
  reports_by_field,
  rows_of_files,
  with_data,
  write,
)

# The fields that the game reads of each side.
READ = {
  "reward": ("preferences", "golden"),
  "policy": ("preferences", "queries"),
  "test": ("preferences", "golden"),
}


def test_a_side_keeps_what_the_game_reads_of_it(tmp_path):
  data = load(tmp_path, rows_of_files())
  for side in SIDES:
    kept = [field for field, records in vars(getattr(data, side)).items() if records]
    assert kept == list(READ[side])
  reports = reports_by_field(data)
  found = collections.Counter(map(side_of, QUERIES))
  assert reports["golden"].sides == {"reward": found["reward"], "test": found["test"]}
  assert reports["golden"].left_out == {"of sides that need none": found["policy"]}
  sentence = reports["golden"].sentence()
  assert sentence.endswith(
    f", {found['reward'] + found['test']} used ({found['reward']} reward, {found['test']} test);"
    f" read: query, response, query_id; left out: {found['policy']} of sides that need none."
  )
  assert reports["queries"].sides == {"policy": found["policy"]}
  assert reports["preferences"].left_out == {}


def test_bad_rows_are_skipped_and_counted(tmp_path):
  rows = rows_of_files()
  expected = load(tmp_path, rows)
  good = {field: list(lines) for field, lines in rows.items()}
  good["golden"].insert(3, "no JSON")
  good["golden"].append({**rows["golden"][0], "response": ""})
  good["preferences"].insert(0, {**rows["preferences"][0], "scores": [1, 1, 1]})
  config, paths = write(tmp_path, good)
  skipping = dataclasses.replace(config.data, on_bad_row="skip")
  data = load_data(dataclasses.replace(config, data=skipping))
  assert fingerprint(data) == fingerprint(expected)
  reports = reports_by_field(data)
  assert reports["golden"].dropped == {"not JSON": 1, "empty response": 1}
  assert reports["golden"].examples["not JSON"][0].startswith("row 4: it is not valid JSON")
  assert reports["golden"].examples["empty response"][0].startswith("row 62: its response is")
  assert (reports["golden"].rows, reports["golden"].records) == (62, 60)
  assert reports["preferences"].dropped == {"all sides equal": 1}
  assert reports["queries"].dropped == {}
  sides = collections.Counter(map(side_of, QUERIES))
  counts = ", ".join(f"{sides[side]} {side}" for side in SIDES)
  assert reports["preferences"].sentence() == (
    f"config.data.preferences: 61 rows in K-wise responses and scores form from"
    f" {paths['preferences']}, 60 used ({counts}); read: responses, scores, query, query_id;"
    " 1 dropped: 1 all sides equal (row 1: it has the same score on every side)."
  )
  # JSON gives it back as it is.
  given = reports["golden"].to_dict()
  assert json.loads(json.dumps(given)) == given and given["sides"]["test"] == sides["test"]


def test_the_first_bad_row_of_each_of_three_reasons_is_shown():
  dropped = {"not JSON": 1200, "empty response": 1, "all sides equal": 2, "wrong scores": 3}
  examples = {reason: ("row 7: " + "x" * 200, "row 9: y") for reason in dropped}
  report = SourceReport("golden", "here", "HH-RLHF", 1206, 0, dropped, examples)
  first = f"(row 7: {'x' * 82}…)"
  assert report.sentence().endswith(
    f"; 1,206 dropped: 1,200 not JSON {first}, 1 empty response {first}, 2 all sides equal {first},"
    " 3 wrong scores."
  )


def test_a_field_of_which_nothing_is_left_is_an_error(tmp_path):
  rows = rows_of_files()
  rows["golden"] = [{**row, "response": " "} for row in rows["golden"]]
  config, _ = write(tmp_path, rows)
  skipping = dataclasses.replace(config.data, on_bad_row="skip")
  message = failure(dataclasses.replace(config, data=skipping))
  assert "of whose 60 rows none can be used; empty response in row 1: " in message


def test_what_comes_from_the_preferences_is_numbered_by_their_rows(tmp_path):
  rows = rows_of_files()
  rows["preferences"][1]["scores"] = [0, 0, 0]
  rows["preferences"][4]["responses"][0] = "a\n\nHuman: b"
  config, _ = write(tmp_path, rows)
  data = load_data(with_data(config, golden="chosen", on_bad_row="skip"))
  report = reports_by_field(data)["golden"]
  assert (report.rows, report.records) == (len(QUERIES) - 1, len(QUERIES) - 2)
  (example,) = report.examples["turn marker inside a message"]
  assert example.startswith("row 5: ")
  rows["preferences"][1]["scores"] = [1, 0, 0]
  rows["preferences"].insert(0, "")  # an empty line is no row
  message = failure(with_data(write(tmp_path, rows)[0], golden="chosen"))
  assert message.startswith("config.data.golden is 'chosen', whose row 5 cannot be used (turn")


def test_embedded_data_have_no_reports():
  assert load_data(tiny.config()).reports == ()
