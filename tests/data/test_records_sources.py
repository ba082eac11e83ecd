import collections
import dataclasses
import json
import re

import pytest

from apo_jax.config import ConfigError
from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.data.sources import fingerprint, load_data, side_of
from tests import tiny

QUERIES = [f"\n\nHuman: What is {number}?\n\nAssistant:" for number in range(60)]
SIDES = ("reward", "policy", "test")


def rows_of_files():
  """The rows of every file; the same queries are in all of them."""
  identified = [{"query_id": f"q{number}", "query": query} for number, query in enumerate(QUERIES)]
  golden = [{**row, "response": f" Golden {i}."} for i, row in enumerate(identified)]
  preferences = [
    {**row, "responses": [f" Good {i}.", " Bad.", " So so."], "scores": [2, 0, 0.5]}
    for i, row in enumerate(identified)
  ]
  demonstrations = [{**row, "response": f" Shown {i}."} for i, row in enumerate(identified[:5])]
  return {
    "demonstrations": demonstrations,
    "preferences": preferences,
    "golden": golden,
    "queries": identified,
  }


def write(tmp_path, rows, name="{}.jsonl"):
  """Writes the rows; returns the config that reads them, and the files' paths."""
  paths = {}
  for field, lines in rows.items():
    paths[field] = tmp_path / name.format(field)
    # A row that is a string already is a line as it stands.
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    paths[field].write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
  fields = {f"data__{field}": str(path) for field, path in paths.items()}
  return tiny.config(data__source="files", **fields), paths


def failure(config):
  with pytest.raises(ConfigError) as error:
    load_data(config)
  return str(error.value)


def load(tmp_path, rows):
  return load_data(write(tmp_path, rows)[0])


def split_queries(split):
  return {record.query for record in (*split.preferences, *split.golden, *split.queries)}


def test_sides_are_disjoint_by_query_and_together_hold_every_record(tmp_path):
  rows = rows_of_files()
  data = load(tmp_path, rows)
  splits = [data.reward, data.policy, data.test]
  assert sum(len(split_queries(split)) for split in splits) == len(QUERIES)
  assert set().union(*map(split_queries, splits)) == set(QUERIES)

  def ids(field):
    return sorted(record.query_id for split in splits for record in getattr(split, field))

  expected = sorted(row["query_id"] for row in rows["queries"])
  assert ids("preferences") == ids("golden") == ids("queries") == expected
  assert data.utility is None


def test_records_are_those_of_the_files(tmp_path):
  data = load(tmp_path, rows_of_files())
  side = getattr(data, side_of(QUERIES[7]))
  assert Query("q7", QUERIES[7]) in side.queries
  assert Demonstration("q7", QUERIES[7], " Golden 7.") in side.golden
  expected = Preference("q7", QUERIES[7], (" Good 7.", " Bad.", " So so."), (2.0, 0.0, 0.5))
  assert expected in side.preferences
  assert data.demonstrations == tuple(
    Demonstration(f"q{i}", QUERIES[i], f" Shown {i}.")
    for i in range(5)
    if side_of(QUERIES[i]) != "test"
  )


def test_no_demonstration_is_of_the_test_side(tmp_path):
  rows = rows_of_files()
  rows["demonstrations"] = [{**row, "response": " Shown."} for row in rows["queries"]]
  data = load(tmp_path, rows)
  shown = {record.query for record in data.demonstrations}
  assert shown == split_queries(data.reward) | split_queries(data.policy)
  rows["demonstrations"] = [row for row in rows["demonstrations"] if row["query"] not in shown]
  config, paths = write(tmp_path, rows)
  message = failure(config)
  assert message.startswith(f"config.data.demonstrations is {str(paths['demonstrations'])!r}")
  assert "test side" in message


def test_demonstrations_may_be_absent_where_nothing_is_trained_on_them(tmp_path):
  config, _ = write(tmp_path, rows_of_files())
  without = dataclasses.replace(config, data=dataclasses.replace(config.data, demonstrations=""))
  assert load_data(without).demonstrations == ()


def test_texts_may_hold_every_kind_of_line_break(tmp_path):
  rows = rows_of_files()
  rows["golden"][7]["response"] = " one\u2028two\x85three\r\nfour"
  side = getattr(load(tmp_path, rows), side_of(QUERIES[7]))
  assert Demonstration("q7", QUERIES[7], " one\u2028two\x85three\r\nfour") in side.golden


MISSING = object()


@pytest.mark.parametrize(
  ("field", "change", "words"),
  [
    ("demonstrations", {"response": MISSING}, "no field 'response'"),
    ("golden", {"query": MISSING}, "no field 'query'"),
    ("queries", {"query_id": MISSING}, "no field 'query_id'"),
    ("preferences", {"responses": MISSING}, "no field 'responses'"),
    ("preferences", {"scores": MISSING}, "no field 'scores'"),
    ("queries", {"query_id": 7}, "query_id is 7; it must be a text"),
    ("golden", {"response": [" a"]}, "response is [' a']; it must be a text"),
    ("golden", {"response": None}, "response is None; it must be a text"),
    ("preferences", {"responses": " a"}, "responses is ' a'; it must be a list of texts"),
    ("preferences", {"responses": [" a", 1, " c"]}, "it must be a list of texts"),
    ("preferences", {"scores": [1, 0]}, "responses and scores must be lists of one length"),
    ("preferences", {"scores": 1.0}, "responses and scores must be lists of one length"),
    ("preferences", {"responses": [" a"], "scores": [1]}, "one length, 2 or more"),
    ("preferences", {"scores": [1, -0.5, 0]}, "scores is [1, -0.5, 0]; each must be a number"),
    ("preferences", {"scores": [1, "0", 0]}, "each must be a number of 0 or more"),
    ("preferences", {"scores": [1, float("nan"), 0]}, "each must be a number of 0 or more"),
    ("queries", {"query": " \n"}, "query is ' \\n'; it must be a text that is not empty"),
    ("golden", {"response": ""}, "response is ''; it must be a text that is not empty"),
    ("demonstrations", {"query_id": " "}, "query_id is ' '; it must be a text"),
    ("preferences", {"scores": [1, True, 0]}, "each must be a number of 0 or more"),
    ("preferences", {"scores": [1, float("inf"), 0]}, "each must be a number of 0 or more"),
    ("preferences", {"scores": [1, 10**400, 0]}, "is wrong: int too large"),
    ("preferences", {"responses": [" a", "\ud800", " c"]}, "responses holds '\\ud800'"),
    ("golden", {"response": " a\ud800"}, "response holds '\\ud800', which is no character"),
    ("preferences", {"query": ""}, "query is ''; it must be a text that is not empty"),
  ],
)
def test_a_wrong_record_is_named_with_field_file_and_number(tmp_path, field, change, words):
  rows = rows_of_files()
  changed = {**rows[field][2], **change}
  rows[field][2] = {name: value for name, value in changed.items() if value is not MISSING}
  config, paths = write(tmp_path, rows)
  message = failure(config)
  assert message.startswith(f"config.data.{field} is {str(paths[field])!r}, whose record 3 ")
  assert words in message


@pytest.mark.parametrize("line", ['{"query_id": "q2", ', "[1, 2]"])
def test_a_line_that_is_no_object_is_named(tmp_path, line):
  rows = rows_of_files()
  rows["golden"][2] = line
  config, paths = write(tmp_path, rows)
  message = failure(config)
  assert message.startswith(f"config.data.golden is {str(paths['golden'])!r}, which cannot be read")
  assert "line 3" in message


@pytest.mark.parametrize("field", ["demonstrations", "preferences", "golden", "queries"])
def test_an_empty_file_is_named(tmp_path, field):
  config, paths = write(tmp_path, rows_of_files() | {field: []})
  expected = f"config.data.{field} is {str(paths[field])!r}, which holds no record"
  assert failure(config).startswith(expected)


def test_a_file_that_went_away_is_named(tmp_path):
  config, paths = write(tmp_path, rows_of_files())
  paths["queries"].unlink()
  expected = f"config.data.queries is {str(paths['queries'])!r}, which cannot be read"
  assert failure(config).startswith(expected)


@pytest.mark.parametrize(
  ("side", "field"),
  [
    ("reward", "preferences"),
    ("reward", "golden"),
    ("policy", "queries"),
    ("test", "preferences"),
    ("test", "golden"),
  ],
)
def test_a_side_that_is_left_empty_is_named(tmp_path, side, field):
  rows = rows_of_files()
  rows[field] = [row for row in rows[field] if side_of(row["query"]) != side]
  config, paths = write(tmp_path, rows)
  message = failure(config)
  assert message.startswith(f"config.data.{field} is {str(paths[field])!r}")
  assert f"no record falls to the {side} side" in message


def test_sides_are_in_the_proportion_9_to_9_to_2():
  number = 20_000
  counts = collections.Counter(side_of(f"query {index}") for index in range(number))
  assert set(counts) == set(SIDES)
  for side, share in zip(SIDES, (0.45, 0.45, 0.1), strict=True):
    deviation = (share * (1 - share) / number) ** 0.5
    assert abs(counts[side] / number - share) < 4 * deviation


def test_the_side_of_a_query_never_changes():
  # A query on another side than before would train one player and judge the other.
  initials = "".join(side_of(f"query {index}")[0] for index in range(40))
  assert initials == "prprrrprrrpprrprrrrprprptrrprppppprprrpp"


def test_fingerprint_is_of_the_records_alone(tmp_path):
  rows = rows_of_files()
  first = fingerprint(load(tmp_path, rows))
  reordered = {
    field: ["", *(json.dumps(dict(reversed(row.items())), indent=None) for row in lines), " "]
    for field, lines in rows.items()
  }
  config, _ = write(tmp_path, reordered, name="other_{}.jsonl")
  other = dataclasses.replace(config, seed=config.seed + 1, rounds=config.rounds + 1)
  assert fingerprint(load_data(other)) == first
  assert re.fullmatch("[0-9a-f]{64}", first)


@pytest.mark.parametrize("index", [0, 4])
@pytest.mark.parametrize(
  ("field", "change"),
  [
    ("demonstrations", {"response": " Another."}),
    ("demonstrations", {"query_id": "another"}),
    ("preferences", {"scores": [0, 2, 0.5]}),
    ("preferences", {"responses": [" Good.", " Bad.", " Another."]}),
    ("golden", {"response": " Another."}),
    ("queries", {"query_id": "another"}),
  ],
)
def test_fingerprint_changes_with_any_record(tmp_path, field, change, index):
  rows = rows_of_files()
  before = fingerprint(load(tmp_path, rows))
  changed = {**rows, field: [dict(row) for row in rows[field]]}
  changed[field][index].update(change)
  assert fingerprint(load(tmp_path, changed)) != before
  shorter = {**rows, field: rows[field][:index] + rows[field][index + 1 :]}
  assert fingerprint(load(tmp_path, shorter)) != before


def test_embedded_data_have_the_sizes_of_the_config():
  data = load_data(tiny.config())
  sizes = [len(data.demonstrations)]
  for split in (data.reward, data.policy, data.test):
    sizes += [len(split.preferences), len(split.golden), len(split.queries)]
  assert sizes == [64, *[32, 16, 16] * 2, 16, 16, 16]
  assert data.utility(data.test.golden[0].query, data.test.golden[0].response) == 1.0


@pytest.mark.parametrize(
  "field", ["num_demonstrations", "num_preferences", "num_golden", "num_queries", "num_test"]
)
def test_embedded_sizes_that_are_too_large_name_the_field(field):
  message = failure(tiny.config(**{f"data__{field}": 10_000_000}))
  assert "config.data" in message and f"{field} is 10000000" in message
