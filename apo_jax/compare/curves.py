"""Curves of settings: over the rounds, and over the updates of a phase."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from apo_jax.compare.comparison import Comparison
from apo_jax.compare.numbers import number_of
from apo_jax.compare.settings import Setting
from apo_jax.compare.statistics import Estimate, over_seeds

_MAX_POINTS = 60  # of a curve: a panel is not wider
# The same numbers with their errors are in the rounds' own files.
_NOT_TRAINING = "evaluation"
_PLACE = ("time", "round", "phase", "step")


class Curve(NamedTuple):
  """A number of a setting, the mean over its seeds.

  Attributes:
    x: rounds or updates.
    values: nan where it is not known.
    errors: standard errors; nan where they are not known.
    counts: the seeds that have each value.
  """

  x: Float[ndarray, " n"]
  values: Float[ndarray, " n"]
  errors: Float[ndarray, " n"]
  counts: Sequence[int]


class PhaseCurves(NamedTuple):
  """The metrics of a phase.

  Attributes:
    by_rounds: whether x is the round, as where a phase says its metrics once a round; else x counts
      updates, one round's behind another's.
    round_ends: the x at which rounds end, but the last.
    metrics: curves by metric and setting's name.
  """

  by_rounds: bool
  round_ends: Sequence[float]
  metrics: Mapping[str, Mapping[str, Curve]]


def round_curve(comparison: Comparison, setting: Setting, number: str) -> Curve:
  """A number of a setting over the rounds."""
  means = [comparison.means[setting.name, round, number] for round in comparison.rounds]
  return _curve(comparison.rounds, means)


def seed_curves(comparison: Comparison, setting: Setting, number: str) -> list[Curve]:
  """The same number of each of the setting's seeds, where it has several."""
  if len(setting.runs) == 1:
    return []
  return [
    _curve(comparison.rounds, [number_of(run, round, number) for round in comparison.rounds])
    for run in setting.runs
  ]


def training_curves(settings: Sequence[Setting]) -> dict[str, PhaseCurves]:
  """The metrics of metrics.jsonl by phase, in the order of the files.

  Where a phase has many updates, a point is the mean over neighbouring ones, first within a seed
  and then over seeds, so that its error is that between seeds.
  """
  phases = dict.fromkeys(
    line["phase"] for setting in settings for run in setting.runs for line in run.metrics
  )
  return {phase: _phase(settings, phase) for phase in phases if phase != _NOT_TRAINING}


def _phase(settings: Sequence[Setting], phase: str) -> PhaseCurves:
  lines = [line for setting in settings for line in _lines(setting, phase)]
  steps: dict[int, set[int]] = {}
  for line in lines:
    steps.setdefault(line["round"], set()).add(line["step"])
  by_rounds = all(len(one) == 1 for one in steps.values())
  begins, end = {}, 0
  for round in sorted(steps):
    begins[round] = end
    end += max(steps[round])

  def x(line: Mapping[str, Any]) -> int:
    return line["round"] if by_rounds else begins[line["round"]] + line["step"]

  places = sorted({x(line) for line in lines})
  points = np.array_split(np.array(places, float), min(len(places), _MAX_POINTS))
  point_of = {place: index for index, point in enumerate(points) for place in point.tolist()}
  metrics = dict.fromkeys(
    name
    for line in lines
    for name, value in line.items()
    if name not in _PLACE and value is not None
  )
  curves: dict[str, dict[str, Curve]] = {metric: {} for metric in metrics}
  for setting in settings:
    for metric in metrics:
      of_seeds = [
        _points(
          [(point_of[x(line)], line.get(metric)) for line in run.metrics if line["phase"] == phase],
          len(points),
        )
        for run in setting.runs
      ]
      means = [over_seeds(one, [math.nan] * len(one), "") for one in zip(*of_seeds, strict=True)]
      if any(one.count for one in means):
        curves[metric][setting.name] = _curve([point.mean() for point in points], means)
  return PhaseCurves(by_rounds, [] if by_rounds else list(begins.values())[1:], curves)


def _curve(x: Sequence[float | int], estimates: Sequence[Estimate]) -> Curve:
  return Curve(
    np.array(x, float),
    np.array([one.value for one in estimates]),
    np.array([one.standard_error for one in estimates]),
    [one.count for one in estimates],
  )


def _points(values: Sequence[tuple[int, float | int | None]], count: int) -> list[float]:
  """The mean of each point's values; nan where it has none."""
  sums, counts = np.zeros(count), np.zeros(count)
  for point, value in values:
    if value is not None:
      sums[point] += value
      counts[point] += 1
  return [float(one) for one in np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)]


def _lines(setting: Setting, phase: str) -> Iterator[Mapping[str, Any]]:
  return (line for run in setting.runs for line in run.metrics if line["phase"] == phase)
