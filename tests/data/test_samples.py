import dataclasses
import json

import numpy as np
import pytest

from apo_jax.data.records import Demonstration, Query
from apo_jax.data.samples import Sample, SampledQuery, read_samples, read_test_rows, write_samples
from apo_jax.data.tokenised import tokenise_records
from apo_jax.rows.rows import Response
from tests import tiny

QUERY = Query("q0", "\n\nHuman: Who?\n\nAssistant:")
UNSCORED = Sample(" Ann has it.", (5, 6, 7), True, -3.25)


def test_what_was_written_is_read(tmp_path):
  scored = dataclasses.replace(
    UNSCORED, finished=False, reference_logprob=-3.5, reward=0.25, utility=1.0
  )
  empty = Sample("", (), False, 0.0)
  odd = dataclasses.replace(UNSCORED, text=' "quoted"\n\u2028\x00 é漢😀\\')
  asked = tokenise_records(
    tiny.codec(),
    [
      Demonstration("q1", "…", " Ann."),
      Demonstration("q2", "no samples", ""),
    ],
  )
  asked = (*tokenise_records(tiny.codec(), [QUERY]), *asked)
  sampled = [
    SampledQuery(asked[0], (UNSCORED, scored)),
    SampledQuery(asked[1], (empty, odd), golden_reward=-0.5, golden_utility=1.0),
    SampledQuery(asked[2], ()),
  ]
  path = tmp_path / "rounds" / "samples.jsonl"
  write_samples(path, iter(sampled))
  assert read_samples(path, asked) == sampled
  assert len(path.read_text(encoding="utf-8").split("\n")) == 4
  write_samples(path, [])
  assert read_samples(path, []) == []


def test_float32_values_come_back_exactly(tmp_path):
  values = np.random.default_rng(0).normal(size=64).astype(np.float32)
  values[:4] = [np.finfo(np.float32).tiny, np.finfo(np.float32).max, 1e-45, -0.0]
  samples = tuple(
    dataclasses.replace(UNSCORED, logprob=float(value), reward=float(value)) for value in values
  )
  asked = tokenise_records(tiny.codec(), [QUERY])
  write_samples(tmp_path / "samples.jsonl", [SampledQuery(asked[0], samples)])
  (read,) = read_samples(tmp_path / "samples.jsonl", asked)
  for field in ("logprob", "reward"):
    again = np.array([getattr(sample, field) for sample in read.samples], np.float32)
    np.testing.assert_array_equal(again.view(np.uint32), values.view(np.uint32))


def test_samples_of_other_queries_are_refused(tmp_path):
  path = tmp_path / "samples.jsonl"
  records = [QUERY, Query("q1", "second")]
  asked = tokenise_records(tiny.codec(), records)
  write_samples(path, [SampledQuery(one, (UNSCORED,)) for one in asked])
  assert [query.asked for query in read_samples(path, asked)] == list(asked)
  for other in (asked[::-1], asked[:1], (*asked, asked[0])):
    with pytest.raises(ValueError, match=r"samples\.jsonl holds samples for other queries"):
      read_samples(path, other)


def test_rewards_of_test_samples_are_named_for_the_judge_and_read_by_either_name(tmp_path):
  asked = tokenise_records(tiny.codec(), [Demonstration("q", "query", " Ann.")])
  sampled = [SampledQuery(asked[0], (dataclasses.replace(UNSCORED, reward=0.5),), 1.5)]
  new, old = tmp_path / "new.jsonl", tmp_path / "old.jsonl"
  write_samples(new, sampled, "testing_reward")
  write_samples(old, sampled)
  (row,) = [json.loads(line) for line in new.read_text().splitlines()]
  assert row["golden_testing_reward"] == 1.5 and row["samples"][0]["testing_reward"] == 0.5
  assert "golden_reward" not in row and "reward" not in row["samples"][0]
  for path in (new, old):
    assert read_samples(path, asked) == sampled
    assert read_test_rows(path) == [row]


@pytest.mark.parametrize("golden", [None, " Ann."])
def test_a_file_s_line_has_the_documented_fields(tmp_path, golden):
  record = Query("q", "query") if golden is None else Demonstration("q", "query", golden)
  (asked,) = tokenise_records(tiny.codec(), [record])
  write_samples(tmp_path / "samples.jsonl", [SampledQuery(asked, (UNSCORED,))])
  line = (tmp_path / "samples.jsonl").read_text()
  assert list(json.loads(line)) == [
    "query_id",
    "query",
    "samples",
    "golden",
    "golden_reward",
    "golden_utility",
    "golden_reference_logprob",
  ]
  assert json.loads(line) == {
    "query_id": "q",
    "query": "query",
    "golden": golden,
    "golden_reward": None,
    "golden_utility": None,
    "golden_reference_logprob": None,
    "samples": [
      {
        "text": " Ann has it.",
        "tokens": [5, 6, 7],
        "finished": True,
        "logprob": -3.25,
        "reference_logprob": None,
        "reward": None,
        "shaped_reward": None,
        "utility": None,
        "drew_end": True,
        "earlier_logprob": None,
      }
    ],
  }


@pytest.mark.parametrize(
  ("text", "empty"), [("", True), (" \n\t", True), (".", False), (" Ann", False)]
)
def test_a_response_is_empty_if_it_says_nothing(text, empty):
  assert dataclasses.replace(UNSCORED, text=text).is_empty is empty


@pytest.mark.parametrize("finished", [True, False])
def test_response_is_the_sampled_ids(finished):
  sample = dataclasses.replace(UNSCORED, finished=finished)
  assert sample.response == Response((5, 6, 7), finished)
