"""What the report is made from: the files of a run directory, read as they are."""

from dataclasses import dataclass, field
from typing import Any

from apo_jax.data.samples import read_test_rows
from apo_jax.logs.files import read_json, read_jsonl
from apo_jax.logs.metrics import read_metrics
from apo_jax.logs.places import Place, absolute
from apo_jax.logs.run_directory import (
  EVALUATION,
  GOLDEN_SAMPLES,
  HEALTH,
  JUDGE,
  POLICY_SAMPLES,
  SCORE,
  TEST_SAMPLES,
  RunDirectory,
)
from apo_jax.report import plots


@dataclass(frozen=True)
class Round:
  """What is on disk of one round; empty where a file is not there yet."""

  number: int
  evaluation: dict[str, Any]
  score: dict[str, Any]
  golden_samples: list[dict[str, Any]]
  policy_samples: list[dict[str, Any]]
  test_samples: list[dict[str, Any]]
  health: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
  """What is on disk of a run."""

  name: str
  config: dict[str, Any]
  metrics: list[dict[str, Any]]
  rounds: list[Round]
  judge: dict[str, Any]

  @property
  def numbers(self) -> list[int]:
    """The rounds' numbers, ascending."""
    return [round.number for round in self.rounds]

  @property
  def colors(self) -> dict[int, str]:
    """The colour of every round, also of those that only have metrics."""
    numbers = sorted({*self.numbers, *(line["round"] for line in self.metrics)})
    return {number: plots.round_color(index, len(numbers)) for index, number in enumerate(numbers)}

  def values(self, key: str) -> list[Any]:
    """A value of every round's evaluation, None where it is unknown."""
    return [round.evaluation.get(key) for round in self.rounds]

  def errors(self, key: str) -> list[Any]:
    """The standard error of a value of every round's evaluation, None where it is unknown."""
    return [round.evaluation.get("standard_errors", {}).get(key) for round in self.rounds]


def read_run(run_dir: Place) -> Run:
  """Reads the files that the report is made from.

  Raises:
    ValueError: a file of the run is not valid JSON; the message names file and line.
  """
  place = RunDirectory(run_dir)
  rounds = [
    _read_round(directory)
    for directory in sorted(place.rounds.glob("*"))
    if directory.name.isdecimal()
  ]
  return Run(
    name=absolute(run_dir).name,
    config=_object(place.config),
    metrics=read_metrics(run_dir),
    rounds=sorted(rounds, key=lambda round: round.number),
    judge=_object(place.round(0) / JUDGE),
  )


def _read_round(directory: Place) -> Round:
  def rows(name: str) -> list[dict[str, Any]]:
    path = directory / name
    return read_jsonl(path) if path.exists() else []

  samples = directory / TEST_SAMPLES
  return Round(
    number=int(directory.name),
    evaluation=_object(directory / EVALUATION),
    score=_object(directory / SCORE),
    golden_samples=rows(GOLDEN_SAMPLES),
    policy_samples=rows(POLICY_SAMPLES),
    test_samples=read_test_rows(samples) if samples.exists() else [],
    health=_object(directory / HEALTH),
  )


def _object(path: Place) -> dict[str, Any]:
  return read_json(path) if path.exists() else {}
