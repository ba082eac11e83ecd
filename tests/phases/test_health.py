"""What a round is warned of, from its files alone."""

import io
import types
from unittest import mock

import numpy as np
import pytest

from apo_jax.data.records import Demonstration
from apo_jax.data.samples import Sample, SampledQuery
from apo_jax.data.tokenised import tokenise_records
from apo_jax.logs.files import read_json, write_json, write_jsonl
from apo_jax.logs.metrics import read_metrics
from apo_jax.logs.progress import Progress
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.phases.health import check_health, findings_of_round
from apo_jax.phases.sampling import describe_golden, describe_samples
from apo_jax.run.run import Run
from tests import tiny

HEALTHY_SCORE = {
  "golden_gradient": 0.3,
  "golden_accuracy": 0.8,
  "golden_longer": 0.75,
  "golden_length_agreement": 0.7,
  **{
    f"{name}_{number}": value
    for name in ("sample", "golden_sample")
    for number, value in (
      ("length_correlation", 0.3),
      ("empty", 0.0),
      ("unfinished", 0.1),
      ("repetition", 0.02),
      ("distinct", 3.5),
    )
  },
}
HEALTHY_EVALUATION = {
  "empty": 0.0,
  "unfinished": 0.1,
  "repetition": 0.02,
  "kl_to_start": 3.0,
  "differences": {
    "previous": {"kl_to_start": {"difference": 2.0, "standard_error": 0.1}},
    "start": {"reward_accuracy": {"difference": -0.03, "standard_error": 0.02}},
  },
}


def names(score=HEALTHY_SCORE, evaluation=HEALTHY_EVALUATION, lines=(), **overrides):
  found = findings_of_round(tiny.config(**overrides), score, evaluation, lines)
  return [(phase, finding.name) for phase, finding in found]


def test_a_healthy_round_and_one_that_has_just_begun_say_nothing():
  assert names() == names({}, {}) == []
  # The first round's start has no KL, and there is nothing to compare with.
  assert names({}, {"kl_to_start": 0.0, "unfinished": 0.0, "reward_accuracy": 0.7}) == []


@pytest.mark.parametrize(
  ("changed", "name"),
  [
    ({"golden_gradient": 0.001}, "no_gradient_left"),
    ({"golden_length_agreement": 0.99}, "separates_by_length"),
    ({"sample_length_correlation": 0.8}, "reward_follows_length"),
    ({"golden_sample_length_correlation": -0.8}, "reward_follows_length"),
    ({"sample_empty": 0.06}, "samples_empty"),
    ({"golden_sample_unfinished": 0.3}, "samples_unfinished"),
    ({"sample_repetition": 0.2}, "samples_repeated"),
    ({"golden_sample_distinct": 1.9}, "samples_alike"),
  ],
)
def test_each_number_of_the_score_is_held_against_its_threshold(changed, name):
  assert names(HEALTHY_SCORE | changed) == [("score", name)]


@pytest.mark.parametrize(
  ("changed", "name"),
  [
    ({"empty": 0.06}, "samples_empty"),
    ({"unfinished": 0.3}, "samples_unfinished"),
    ({"repetition": 0.2}, "samples_repeated"),
    ({"kl_to_start": 21.0, "differences": {}}, "kl_is_large"),
    (
      {"differences": {"previous": {"kl_to_start": {"difference": 2.5, "standard_error": 0.1}}}},
      "kl_grows",
    ),
    (
      {
        "differences": {"start": {"reward_accuracy": {"difference": -0.05, "standard_error": 0.02}}}
      },
      "forgets_preferences",
    ),
  ],
)
def test_each_number_of_the_evaluation_is_held_against_its_threshold(changed, name):
  assert names(evaluation=HEALTHY_EVALUATION | changed) == [("evaluation", name)]


def test_a_threshold_of_the_config_decides():
  assert names(health__kl=2.5) == [("evaluation", "kl_is_large")]
  assert names(health__forgetting=1.0) == [("evaluation", "forgets_preferences")]
  assert names(HEALTHY_SCORE | {"golden_gradient": 0.0}, health__golden_gradient=0.0) == []


def test_one_sample_a_query_is_not_alike():
  score = HEALTHY_SCORE | {"sample_distinct": 1.0, "golden_sample_distinct": 1.0}
  one = {"sampling__training__num_samples": 1, "policy__loss": "rjs"}
  assert names(score) == [("score", "samples_alike")] and names(score, **one) == []


def test_the_worse_samples_are_named():
  score = HEALTHY_SCORE | {"sample_empty": 0.1, "golden_sample_empty": 0.5}
  ((_, finding),) = findings_of_round(tiny.config(), score, {}, [])
  assert "50.0% of samples beside golden responses" in finding.sentence


def test_clipping_is_told_phase_by_phase():
  lines = [
    {"phase": phase, "round": 1, "step": step, "gradient_norm": norm}
    for phase, norm in (("reward", 3.0), ("policy", 0.5))
    for step in (1, 2)
  ]
  ((phase, finding),) = findings_of_round(tiny.config(), {}, {}, [*lines, {"phase": "score"}])
  assert phase == "reward" and "config.reward.training.clip_norm" in finding.sentence
  # The judge is trained as the base, unless it has a training of its own.
  judge = [{"phase": "testing_reward", "gradient_norm": 3.0}]
  ((_, finding),) = findings_of_round(tiny.config(), {}, {}, judge)
  assert "config.reward.base.clip_norm" in finding.sentence


def run_in(path, stream, **overrides):
  """As much of a run as tells its health."""
  run = mock.Mock(spec=Run)
  run.config, run.directory = tiny.config(**overrides), RunDirectory(path)
  run.logs = types.SimpleNamespace(
    progress=Progress(True, stream=stream),
    is_writer=True,
    metrics=types.SimpleNamespace(
      of_round=lambda round: [line for line in read_metrics(path) if line["round"] == round]
    ),
  )
  return run


def test_a_warning_is_said_once_and_kept(tmp_path):
  directory = tmp_path / "rounds/02"
  stream = io.StringIO()
  run = run_in(tmp_path, stream)
  check_health(run, 2)  # nothing is there yet
  assert not directory.exists()
  write_json(directory / "score.json", HEALTHY_SCORE | {"sample_empty": 0.5})
  check_health(run, 2)
  assert "Health, round 2, score: 50.0% of samples to the policy's queries" in stream.getvalue()
  lines = [
    {"time": 0.0, "round": round, "phase": "policy", "step": 1, "gradient_norm": norm}
    for round, norm in ((1, 9.0), (2, 0.5))
  ]
  write_jsonl(tmp_path / "metrics.jsonl", lines)
  check_health(run, 2)  # of the round alone, and nothing that was said before
  assert stream.getvalue().count("Health") == 1
  (kept,) = read_json(directory / "health.json")["findings"]
  assert kept["name"] == "samples_empty" and kept["value"] == 0.5 and kept["threshold"] == 0.05
  # Another threshold decides anew.
  check_health(run_in(tmp_path, stream, health__empty=1.0), 2)
  assert read_json(directory / "health.json") == {"findings": []}


def test_only_the_writer_writes(tmp_path):
  write_json(tmp_path / "rounds/01/score.json", HEALTHY_SCORE)
  run = run_in(tmp_path, io.StringIO())
  run.logs.is_writer = False
  check_health(run, 1)
  assert not (tmp_path / "rounds/01/health.json").exists()


def sampled_query(texts, rewards, golden_reward):
  codec = tiny.codec()
  record = Demonstration("q", "\n\nHuman: Who has it?\n\nAssistant:", " Ann has the red box.")
  (asked,) = tokenise_records(codec, [record])
  samples = tuple(
    Sample(text, tuple(response.tokens), response.finished, -1.0, reward=reward)
    for text, response, reward in zip(texts, codec.encode_responses(texts), rewards, strict=True)
  )
  return SampledQuery(asked, samples, golden_reward)


def test_what_the_score_says_of_samples():
  texts = [" Ann.", "", " Ann has the red box.", " a b c d a b c d a b c d", " Ann."]
  query = sampled_query(texts, [1.0, 0.0, 2.0, 3.0, 1.0], 2.0)
  run = mock.Mock(spec=Run)
  run.codec = tiny.codec()
  found = describe_samples(run, [query], "sample")
  assert found["sample_empty"] == pytest.approx(1 / 5)
  assert found["sample_distinct"] == 4
  assert found["sample_repetition"] == pytest.approx((5 / 9) / 5)  # four of nine runs are new
  assert found["sample_length_correlation"] == pytest.approx(1.0)
  golden = describe_golden([query])
  # The sample that is the golden response makes no pair.
  margins = np.array([1.0, 2.0, -1.0, 1.0])
  assert golden["golden_gradient"] == pytest.approx(np.mean(1 / (1 + np.exp(margins))))
  assert golden["golden_accuracy"] == golden["golden_longer"] == 3 / 4
  assert golden["golden_length_agreement"] == 1.0


def test_numbers_that_are_not_defined_are_left_out():
  query = sampled_query([" Ann has the red box."] * 2, [1.0, 1.0], 1.0)
  run = mock.Mock(spec=Run)
  run.codec = tiny.codec()
  assert "sample_length_correlation" not in describe_samples(run, [query], "sample")
  assert not {"golden_gradient", "golden_length_agreement"} & describe_golden([query]).keys()
