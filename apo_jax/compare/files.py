"""A comparison's numbers as CSV, in the order of settings, rounds and numbers."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from apo_jax.compare.comparison import Comparison
from apo_jax.compare.curves import PhaseCurves
from apo_jax.compare.numbers import number_of
from apo_jax.compare.statistics import Estimate
from apo_jax.logs.files import write_text

NUMBERS = "numbers.csv"
DIFFERENCES = "differences.csv"
METRICS = "metrics.csv"
_MEAN = "mean"  # in the column of seeds


def write_csv(comparison: Comparison, training: Mapping[str, PhaseCurves], output: Path) -> None:
  """Writes the three files; what is not known is empty."""
  _write(
    output / NUMBERS,
    ("setting", "seed", "round", "number", "value", "standard_error", "error_over", "seeds"),
    _numbers(comparison),
  )
  _write(
    output / DIFFERENCES,
    (
      *("setting", "baseline", "seed", "round", "number", "difference", "standard_error"),
      *("error_over", "seeds", "t", "p", "p_holm"),
    ),
    _differences(comparison),
  )
  _write(
    output / METRICS,
    ("setting", "phase", "metric", "axis", "place", "mean", "standard_error", "seeds"),
    _metrics(comparison, training),
  )


def _numbers(comparison: Comparison) -> Iterable[Sequence[object]]:
  for setting in comparison.settings:
    for round in comparison.rounds:
      for name in comparison.numbers:
        of_seeds = [(run.seed, number_of(run, round, name)) for run in setting.runs]
        mean = (_MEAN, comparison.means[setting.name, round, name])
        for seed, one in (*of_seeds, mean):
          if one.count:
            yield setting.name, seed, round, name, *_estimate(one)


def _differences(comparison: Comparison) -> Iterable[Sequence[object]]:
  for (setting, round, name), difference in comparison.differences.items():
    place = (setting, comparison.baseline.name)
    for seed, one in difference.by_seed.items():
      yield *place, seed, round, name, *_estimate(one), "", "", ""
    if difference.estimate.count:
      test = ("", "", "") if difference.test is None else (*difference.test, difference.corrected_p)
      yield *place, _MEAN, round, name, *_estimate(difference.estimate), *test


def _metrics(
  comparison: Comparison, training: Mapping[str, PhaseCurves]
) -> Iterable[Sequence[object]]:
  for setting in comparison.settings:
    for phase, curves in training.items():
      axis = "round" if curves.by_rounds else "update"
      for metric, by_setting in curves.metrics.items():
        curve = by_setting.get(setting.name)
        for x, value, error, count in zip(*curve, strict=True) if curve else ():
          if count:
            yield setting.name, phase, metric, axis, _cell(x), _cell(value), _cell(error), count


def _estimate(one: Estimate) -> tuple[object, ...]:
  error = _cell(one.standard_error)
  return _cell(one.value), error, one.over if error != "" else "", one.count


def _cell(value: float) -> float | str:
  return "" if math.isnan(value) else float(value)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(header)
  writer.writerows(rows)
  write_text(path, text.getvalue())
