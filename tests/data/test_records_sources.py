import collections
import dataclasses
import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data.records import Demonstration, Preference, Query, subsets_of
from apo_jax.data.sources import fingerprint, load_data, side_of
from tests import tiny
from tests.data.source_files import (
  ALL,
  QUERIES,
  SIDES,
  failure,
  load,
  number_of,
  reports_by_field,
  rows_of_files,
  with_data,
  write,
)


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

  def expected(*sides):
    return sorted(row["query_id"] for row in rows["queries"] if side_of(row["query"]) in sides)

  assert ids("preferences") == expected(*SIDES)
  assert ids("golden") == expected("reward", "test")
  assert ids("queries") == expected("policy")
  assert data.utility is None


def test_records_are_those_of_the_files(tmp_path):
  data = load(tmp_path, rows_of_files())
  i = number_of("policy")
  assert Query(f"q{i}", QUERIES[i]) in data.policy.queries
  expected = Preference(f"q{i}", QUERIES[i], (f" Good {i}.", " Bad.", " So so."), (2.0, 0.0, 0.5))
  assert expected in data.policy.preferences
  for side in ("reward", "test"):
    i = number_of(side)
    assert Demonstration(f"q{i}", QUERIES[i], f" Golden {i}.") in getattr(data, side).golden
  assert data.demonstrations == tuple(
    Demonstration(f"q{i}", QUERIES[i], f" Shown {i}.")
    for i in range(5)
    if side_of(QUERIES[i]) != "test"
  )


def told_apart(tmp_path, subset_of):
  """The data whose preferences have a column `part`, by their number."""
  rows = rows_of_files()
  rows["preferences"] = [{**row, "part": subset_of(i)} for i, row in enumerate(rows["preferences"])]
  config, _ = write(tmp_path, rows)
  return with_data(config, subset_column="part")


def test_preferences_are_told_apart_by_a_column(tmp_path):
  plain = load_data(with_data(told_apart(tmp_path, lambda i: f"part_{i % 3}"), subset_column=""))
  data = load_data(told_apart(tmp_path, lambda i: f"part_{i % 3}"))
  assert subsets_of(data.reward.preferences) == ("part_0", "part_1", "part_2")
  assert subsets_of(plain.reward.preferences) == ()
  # What is not told apart has the hash that it had before there were subsets.
  assert fingerprint(plain) == fingerprint(load(tmp_path, rows_of_files())) != fingerprint(data)
  with pytest.raises(ConfigError, match=r"into 1 subset \('one'\); it must have 2 to 9"):
    load_data(told_apart(tmp_path, lambda i: "one"))
  with pytest.raises(
    ConfigError, match=r"'part'.* into 27 subsets \('10', .*, …\); it must have 2 to 9"
  ):
    load_data(told_apart(tmp_path, str))


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
  i, text = number_of("reward"), " one\u2028two\x85three\r\nfour"
  rows["golden"][i]["response"] = text
  assert Demonstration(f"q{i}", QUERIES[i], text) in load(tmp_path, rows).reward.golden


MISSING = object()


@pytest.mark.parametrize(
  ("field", "change", "words"),
  [
    ("demonstrations", {"response": MISSING}, "no field 'response'"),
    ("golden", {"query": MISSING}, "no field 'query'"),
    ("preferences", {"responses": MISSING}, "no field 'responses'"),
    ("preferences", {"scores": MISSING}, "no field 'scores'"),
    ("golden", {"response": [" a"]}, "response is [' a']; it must be a text"),
    ("golden", {"response": None}, "no field 'response'"),
    ("preferences", {"responses": " a"}, "responses is ' a'; it must be a list of texts"),
    ("preferences", {"responses": [" a", 1, " c"]}, "it must be a list of texts"),
    ("preferences", {"scores": [1, 0]}, "responses and scores must be lists of one length"),
    ("preferences", {"scores": 1.0}, "responses and scores must be lists of one length"),
    (
      "preferences",
      {"responses": [" a"], "scores": [1]},
      "has 1 responses; a preference needs 2 or more",
    ),
    (
      "preferences",
      {"scores": [1, [], 0]},
      "scores is [1, [], 0]; each must be a finite number",
    ),
    ("preferences", {"scores": [1, "zero", 0]}, "each must be a finite number"),
    ("preferences", {"scores": [1, float("nan"), 0]}, "each must be a finite number"),
    ("queries", {"query": " \n"}, "query is ' \\n'; it must be a text that is not empty"),
    ("golden", {"response": ""}, "response is blank; it must be a text that is not empty"),
    ("preferences", {"scores": [1, True, 0]}, "each must be a finite number"),
    ("preferences", {"scores": [1, float("inf"), 0]}, "each must be a finite number"),
    ("preferences", {"scores": [1, 10**400, 0]}, "each must be a finite number"),
    ("preferences", {"responses": [" a", "\ud800", " c"]}, "responses holds '\\ud800'"),
    ("golden", {"response": " a\ud800"}, "response holds '\\ud800', which is no character"),
    ("preferences", {"query": ""}, "query is ''; it must be a text that is not empty"),
    ("preferences", {"responses": [" a", " ", " c"]}, "3 responses, of which 1 say nothing"),
    ("preferences", {"responses": [" a", "a ", " a"]}, "the response ' a' on every side"),
    ("preferences", {"scores": [1, 1, 1]}, "the same score on every side"),
    ("golden", {"response": " a\n\nHuman: b"}, "turn marker '\\n\\nHuman:' in its response"),
  ],
)
def test_a_wrong_record_is_named_with_field_file_and_number(tmp_path, field, change, words):
  rows = rows_of_files()
  changed = {**rows[field][2], **change}
  rows[field][2] = {name: value for name, value in changed.items() if value is not MISSING}
  config, paths = write(tmp_path, rows)
  message = failure(config)
  assert message.startswith(
    f"config.data.{field} is {str(paths[field])!r}, whose row 3 cannot be used ("
  )
  assert words in message


@pytest.mark.parametrize(
  ("line", "words"),
  [('{"query_id": "q2", ', "not valid JSON"), ("[1, 2]", "must be a JSON object")],
)
def test_a_line_that_is_no_object_is_named(tmp_path, line, words):
  rows = rows_of_files()
  rows["golden"][2] = line
  config, paths = write(tmp_path, rows)
  message = failure(config)
  expected = (
    f"config.data.golden is {str(paths['golden'])!r}, whose row 3 cannot be used (not JSON)"
  )
  assert message.startswith(expected)
  assert words in message


def test_a_query_without_id_has_one_by_its_text(tmp_path):
  rows = rows_of_files()
  for row in rows["queries"]:
    row.pop("query_id", None)
  queries = load(tmp_path, rows).policy.queries
  assert len({query.query_id for query in queries}) == len(queries) > 1
  assert load(tmp_path, rows).policy.queries == queries


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


def test_preferences_of_the_policy_side_are_needed_where_a_judge_learns_from_them_alone(tmp_path):
  rows = rows_of_files()
  rows["preferences"] = [row for row in rows["preferences"] if side_of(row["query"]) != "policy"]
  config, _ = write(tmp_path, rows)
  assert not load_data(config).policy.preferences
  judge = dataclasses.replace(config.testing_reward, preferences="policy")
  message = failure(dataclasses.replace(config, testing_reward=judge))
  assert "no record falls to the policy side" in message


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


def slow(*values):
  return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
  ("field", "change", "side"),
  [
    ("demonstrations", {"response": " Another."}, "reward"),
    slow("demonstrations", {"query_id": "another"}, "policy"),
    ("preferences", {"scores": [0, 2, 0.5]}, "reward"),
    slow("preferences", {"scores": [0, 2, 0.5]}, "policy"),
    slow("preferences", {"responses": [" Good.", " Bad.", " Another."]}, "test"),
    slow("golden", {"response": " Another."}, "reward"),
    slow("golden", {"response": " Another."}, "test"),
    ("queries", {"query_id": "another"}, "policy"),
  ],
)
def test_fingerprint_changes_with_any_record(tmp_path, field, change, side):
  rows, index = rows_of_files(), number_of(side)
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


def test_embedded_golden_responses_may_be_the_chosen_ones():
  """The reward model's alone: policies are judged by the same golden responses."""
  data, usual = load_data(tiny.config(data__golden="chosen")), load_data(tiny.config())
  assert len(data.reward.golden) == len(usual.reward.golden) == 16
  best = {
    one.query_id: one.responses[int(np.argmax(one.scores))] for one in usual.reward.preferences
  }
  for one in data.reward.golden:
    assert one.response == best[one.query_id]
  utilities = [data.utility(one.query, one.response) for one in data.reward.golden]
  assert min(utilities) < 1.0  # nobody is asked for the best answer
  assert data.test == usual.test and data.reward.preferences == usual.reward.preferences


@pytest.mark.parametrize("switch", [{"covers_failures": True}, {"label_sharpness": 0.0}])
def test_switches_of_the_embedded_data_reach_its_preferences(switch):
  changed = {f"data__embedded__{name}": value for name, value in switch.items()}
  data, usual = load_data(tiny.config(**changed)), load_data(tiny.config())
  assert data.reward.preferences != usual.reward.preferences
  assert data.demonstrations == usual.demonstrations


@pytest.mark.parametrize(
  "field", ["num_demonstrations", "num_preferences", "num_golden", "num_queries", "num_test"]
)
def test_embedded_sizes_that_are_too_large_name_the_field(field):
  message = failure(tiny.config(**{f"data__{field}": 10_000_000}))
  assert "config.data" in message and f"{field} is 10000000" in message


def test_limits_take_the_same_records_whatever_the_order(tmp_path):
  rows = rows_of_files()
  rows["demonstrations"] = [{**row, "response": " Shown."} for row in rows["queries"]]
  limits = {"demonstrations": 7, "preferences": 5, "golden": 4, "queries": 3, "test": 2}
  limits = {f"num_{name}": limit for name, limit in limits.items()}
  everything = load(tmp_path, rows)
  data = load_data(with_data(write(tmp_path, rows)[0], **limits))
  sizes = {side: [len(part) for part in vars(getattr(data, side)).values()] for side in SIDES}
  assert sizes == {"reward": [5, 4, 0], "policy": [5, 0, 3], "test": [2, 2, 0]}
  assert len(data.demonstrations) == 7
  for side in SIDES:
    for field in ("preferences", "golden", "queries"):
      kept, found = (getattr(getattr(one, side), field) for one in (data, everything))
      # In their order, and not just the first of the file.
      assert list(kept) == [record for record in found if record in kept]
  assert data.reward.preferences != everything.reward.preferences[:5]
  reversed_rows = {field: lines[::-1] for field, lines in rows.items()}
  other = load_data(with_data(write(tmp_path, reversed_rows)[0], **limits))
  assert {record.query for record in other.demonstrations} == {
    record.query for record in data.demonstrations
  }
  for side in SIDES:
    for field in ("preferences", "golden", "queries"):
      kept, found = (getattr(getattr(one, side), field) for one in (other, data))
      assert kept == found[::-1]
  report = reports_by_field(data)["preferences"]
  assert report.sides == {"reward": 5, "policy": 5, "test": 2}
  assert report.left_out == {"over the limits": len(QUERIES) - 12}
  tested = len(everything.test.golden)
  assert reports_by_field(data)["demonstrations"].left_out == {
    "of sides that need none": tested,
    "over the limits": len(QUERIES) - tested - 7,
  }


def test_golden_and_queries_come_from_the_preferences(tmp_path):
  rows = rows_of_files()
  config, _ = write(tmp_path, rows)
  data = load_data(with_data(config, golden="chosen", queries="preferences"))
  expected = load_data(config)
  for side in SIDES:
    found, source = getattr(data, side), getattr(expected, side)
    assert found.preferences == source.preferences and found.queries == source.queries
    if side != "policy":
      assert found.golden == tuple(
        Demonstration(one.query_id, one.query, one.responses[0]) for one in source.preferences
      )
  report = reports_by_field(data)["golden"]
  assert report.location == "config.data.preferences"
  assert report.format == "K-wise responses and scores" and report.records == len(QUERIES)


def test_golden_responses_find_their_queries_in_the_queries(tmp_path):
  rows = rows_of_files()
  rows["golden"] = [
    {"query_id": row["query_id"], "golden": row["response"].strip()} for row in rows["golden"]
  ]
  config, _ = write(tmp_path, rows)
  # The limits on queries do not take a golden response its query.
  data = load_data(with_data(config, num_queries=1))
  expected = load(tmp_path, rows_of_files())
  assert [getattr(data, side).golden for side in SIDES] == [
    getattr(expected, side).golden for side in SIDES
  ]


def hh_rows(rows):
  """The two best responses of each preference as whole dialogues."""
  return [
    {
      "query_id": row["query_id"],
      "chosen": row["query"] + row["responses"][0],
      "rejected": row["query"] + row["responses"][1],
    }
    for row in rows
  ]


def test_the_same_data_in_another_form_and_file_have_the_same_fingerprint(tmp_path):
  rows = rows_of_files()
  for row in rows["preferences"]:
    row.update(responses=row["responses"][:2], scores=[1, 0])
  expected = fingerprint(load(tmp_path, rows))
  config, _ = write(tmp_path, {**rows, "preferences": hh_rows(rows["preferences"])})
  listed = tmp_path / "golden.json.gz"
  listed.write_bytes(gzip.compress(json.dumps(rows["golden"]).encode()))
  table = tmp_path / "queries.parquet"
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows["queries"]), table)
  config = with_data(config, golden=str(listed), queries=str(table))
  assert fingerprint(load_data(config)) == expected


REAL = Path(os.environ.get("APO_JAX_SHARED", tiny.ROOT.parent / "shared")) / "data"


@pytest.mark.skipif(not REAL.is_dir(), reason="APO_JAX_SHARED names no folder with real data")
@pytest.mark.slow
def test_real_data_load_without_a_bad_row():
  config = tiny.config(
    data__source="files",
    data__demonstrations=str(REAL / "alpaca_eval_gpt4.json"),
    data__preferences=str(REAL / "hh" / "preferences.jsonl.gz"),
    data__golden=str(REAL / "hh" / "golden.jsonl.gz"),
    data__queries="preferences",
    **ALL,
  )
  reports = reports_by_field(load_data(config))
  found = {field: (report.format, report.records) for field, report in reports.items()}
  assert found == {
    "demonstrations": ("AlpacaEval outputs", 676),
    "preferences": ("HH-RLHF", 3977),
    "golden": ("APO golden", 367),
    "queries": ("HH-RLHF", 3977),
  }
  assert not any(report.dropped for report in reports.values())
