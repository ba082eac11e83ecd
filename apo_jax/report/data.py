"""What the report is made from: the files of a run directory, read as they are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from apo_jax.data.samples import read_test_rows
from apo_jax.logs.files import read_json, read_jsonl
from apo_jax.logs.metrics import read_metrics
from apo_jax.logs.places import Place, resolved
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
from apo_jax.run.branched import Branch, read_branch

# Rounds that have a panel, a line and a column of samples each; a page of hundreds serves nobody,
# and takes minutes to draw.
MOST_SHOWN = 12


@dataclass(frozen=True)
class Round:
  """What is on disk of one round; empty where a file is not there yet.

  Samples are read of the rounds that are shown one by one (`Run.shown`).
  """

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
  branch: Branch | None = None

  @property
  def shown(self) -> list[int]:
    """The rounds that are shown one by one."""
    return shown_rounds(self.numbers)

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
  numbers = sorted(int(path.name) for path in place.rounds.glob("*") if path.name.isdecimal())
  shown = shown_rounds(numbers)
  rounds = [_read_round(place.round(number), number in shown) for number in numbers]
  return Run(
    name=resolved(run_dir).name,
    config=_object(place.config),
    metrics=read_metrics(run_dir),
    rounds=rounds,
    judge=_object(place.round(0) / JUDGE),
    branch=read_branch(place),
  )


def shown_rounds(numbers: Sequence[int]) -> list[int]:
  """At most `MOST_SHOWN` of the ascending numbers: the first, the last, and evenly between."""
  if len(numbers) <= MOST_SHOWN:
    return list(numbers)
  return [numbers[round(i * (len(numbers) - 1) / (MOST_SHOWN - 1))] for i in range(MOST_SHOWN)]


def _read_round(directory: Place, is_shown: bool) -> Round:
  def rows(name: str) -> list[dict[str, Any]]:
    path = directory / name
    return read_jsonl(path) if is_shown and path.exists() else []

  samples = directory / TEST_SAMPLES
  return Round(
    number=int(directory.name),
    evaluation=_object(directory / EVALUATION),
    score=_object(directory / SCORE),
    golden_samples=rows(GOLDEN_SAMPLES),
    policy_samples=rows(POLICY_SAMPLES),
    test_samples=read_test_rows(samples) if is_shown and samples.exists() else [],
    health=_object(directory / HEALTH),
  )


def _object(path: Place) -> dict[str, Any]:
  return read_json(path) if path.exists() else {}
