"""What a round is warned of, from the numbers that its phases leave, and where it is said.

health.json is made anew from the round's files after every phase of it, so that a run that was
stopped, or goes on with other thresholds, has it as any other.
"""

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from apo_jax.config.schema import Config, TrainingConfig
from apo_jax.evaluation.health.clipping import are_clipped
from apo_jax.evaluation.health.divergence import explodes, is_far
from apo_jax.evaluation.health.finding import Finding
from apo_jax.evaluation.health.forgetting import forgets_preferences
from apo_jax.evaluation.health.length import follows_length, separates_by_length
from apo_jax.evaluation.health.responses import (
  are_alike,
  are_empty,
  are_unfinished,
  repeat_themselves,
)
from apo_jax.evaluation.health.separation import separates_perfectly
from apo_jax.logs import files
from apo_jax.logs.metrics import read_metrics
from apo_jax.logs.places import Place
from apo_jax.logs.run_directory import EVALUATION, HEALTH, SCORE
from apo_jax.run.judge import training_of_judge
from apo_jax.run.run import Run

_SAMPLES = {
  "sample": "samples to the policy's queries",
  "golden_sample": "samples beside golden responses",
}


def check_health(run: Run, round: int) -> None:
  """Writes health.json of a round that has begun, and says what it had not held before."""
  if run.logs.is_writer:
    _check_round(run, round, run.logs.metrics.of_round(round))


def check_all_health(run: Run, rounds: Iterable[int]) -> None:
  """The same of several rounds, whose lines are read once."""
  if not run.logs.is_writer:
    return
  lines = collections.defaultdict(list)
  for line in read_metrics(run.directory.path):
    lines[line["round"]].append(line)
  for round in rounds:
    _check_round(run, round, lines[round])


def _check_round(run: Run, round: int, lines: Sequence[Mapping[str, Any]]) -> None:
  directory = run.directory.round(round)
  if not directory.exists():
    return
  path = directory / HEALTH
  known = _said_before(path)
  numbers = [
    files.read_json(directory / name) if (directory / name).exists() else {}
    for name in (SCORE, EVALUATION)
  ]
  found = [
    {"phase": phase, **finding._asdict()}
    for phase, finding in findings_of_round(run.config, *numbers, lines)
  ]
  files.write_json(path, {"findings": found})
  for one in found:
    if one not in known:
      phase = one["phase"].replace("_", " ")
      run.logs.progress.message(f"Health, round {round}, {phase}: {one['sentence']}")


def _said_before(path: Place) -> list[dict[str, Any]]:
  """The findings of a health.json; a damaged one is made anew as if it had held none."""
  try:
    return list(files.read_json(path)["findings"])
  except (OSError, ValueError, TypeError, KeyError):
    return []


def findings_of_round(
  config: Config,
  score: Mapping[str, Any],
  evaluation: Mapping[str, Any],
  lines: Sequence[Mapping[str, Any]],
) -> list[tuple[str, Finding]]:
  """What is wrong with a round, each with the phase that showed it.

  Args:
    config: the thresholds, and the fields that sentences name.
    score: of score.json, empty where it is not there yet; what it lacks is not checked.
    evaluation: the same of evaluation.json.
    lines: the round's lines of metrics.jsonl.
  """
  found: list[tuple[str, Finding | None]] = [
    *_of_training(config, lines),
    *(("score", finding) for finding in _of_score(config, score)),
    *(("evaluation", finding) for finding in _of_evaluation(config, evaluation)),
  ]
  return [(phase, finding) for phase, finding in found if finding is not None]


def _of_training(
  config: Config, lines: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Finding | None]]:
  for phase, (training, field) in _trainings(config).items():
    norms = [
      line["gradient_norm"] for line in lines if line["phase"] == phase and "gradient_norm" in line
    ]
    yield phase, are_clipped(norms, training.clip_norm, config.health.clipped, field)


def _trainings(config: Config) -> dict[str, tuple[TrainingConfig, str]]:
  """Of every training phase, its optimisation and the field of that."""
  own = config.testing_reward.training is not None
  judge = "config.testing_reward.training" if own else "config.reward.base"
  return {
    "supervised": (config.supervised, "config.supervised"),
    "reward_base": (config.reward.base, "config.reward.base"),
    "testing_trunk": (config.supervised, "config.supervised"),
    "testing_reward": (training_of_judge(config), judge),
    "reward": (config.reward.training, "config.reward.training"),
    "policy": (config.policy.training, "config.policy.training"),
  }


def _of_score(config: Config, score: Mapping[str, Any]) -> Iterator[Finding | None]:
  health, apo = config.health, config.reward.apo
  if "golden_gradient" in score:
    yield separates_perfectly(score["golden_gradient"], health.golden_gradient, apo.kind)
  if "golden_length_agreement" in score:
    yield separates_by_length(
      score["golden_length_agreement"],
      health.length_agreement,
      score["golden_accuracy"],
      score["golden_longer"],
    )
  yield from _of_samples(config, score)


def _of_samples(config: Config, score: Mapping[str, Any]) -> Iterator[Finding | None]:
  """One policy draws those for both players, so each kind is said once, of the worse samples."""
  health, sampler = config.health, "config.sampling.training"

  def worst(number: str, badness: int = 1) -> tuple[float, str] | None:
    values = [
      (score[f"{name}_{number}"], said)
      for name, said in _SAMPLES.items()
      if f"{name}_{number}" in score
    ]
    return max(values, key=lambda value: badness * value[0]) if values else None

  correlated = [
    value for value in (worst("length_correlation"), worst("length_correlation", -1)) if value
  ]
  if correlated:
    value, of = max(correlated, key=lambda value: abs(value[0]))
    yield follows_length(value, health.length_correlation, of)
  if known := worst("empty"):
    yield are_empty(known[0], health.empty, known[1])
  if known := worst("unfinished"):
    yield are_unfinished(known[0], health.unfinished, known[1], sampler)
  if known := worst("repetition"):
    yield repeat_themselves(known[0], health.repetition, known[1], sampler)
  number = config.sampling.training.num_samples
  if number > 1 and (known := worst("distinct", -1)):
    yield are_alike(known[0] / number, health.distinct, known[1], sampler)


def _of_evaluation(config: Config, evaluation: Mapping[str, Any]) -> Iterator[Finding | None]:
  health, sampler = config.health, "config.sampling.evaluation"
  of = "samples to the test queries"
  if (share := evaluation.get("empty")) is not None:
    yield are_empty(share, health.empty, of)
  if (share := evaluation.get("unfinished")) is not None:
    yield are_unfinished(share, health.unfinished, of, sampler)
  if (share := evaluation.get("repetition")) is not None:
    yield repeat_themselves(share, health.repetition, of, sampler)
  differences = evaluation.get("differences", {})
  fallen, error = _difference(differences, "start", "reward_accuracy")
  if fallen is not None and error is not None:
    yield forgets_preferences(fallen, error, health.forgetting)
  kl, (grown, _) = (
    evaluation.get("kl_to_start"),
    _difference(differences, "previous", "kl_to_start"),
  )
  if kl is not None:
    yield is_far(kl, health.kl)
    if grown is not None:
      yield explodes(kl, kl - grown, health.kl_growth)


def _difference(
  differences: Mapping[str, Any], other: str, name: str
) -> tuple[float | None, float | None]:
  """What the round has more than another, and its standard error, where they are known."""
  found = differences.get(other, {}).get(name, {})
  return found.get("difference"), found.get("standard_error")
