"""What is compared: settings, all their numbers, and the tests of their differences."""

import dataclasses
from collections.abc import Mapping, Sequence

from apo_jax.compare.numbers import (
  Difference,
  all_numbers,
  check_pairs,
  differences_of,
  is_tested,
  mean_of,
  tested,
)
from apo_jax.compare.runs import find_runs
from apo_jax.compare.settings import Setting, find_baseline, make_settings
from apo_jax.compare.statistics import Estimate
from apo_jax.config.fields import ConfigError
from apo_jax.logs.places import Place


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A whole comparison.

  Attributes:
    settings: in the order in which their runs were given.
    baseline: what the others are compared with.
    round: the round that tests and tables are of.
    rounds: all rounds that any run has.
    numbers: the names of all numbers.
    means: by setting's name, round and number.
    differences: the same, without the baseline; tested after `round` alone.
    common_queries: the least and the most test queries of a pair of runs; None without a pair.
    left_out: a sentence for each run that was.
  """

  settings: Sequence[Setting]
  baseline: Setting
  round: int
  rounds: Sequence[int]
  numbers: Sequence[str]
  means: Mapping[tuple[str, int, str], Estimate]
  differences: Mapping[tuple[str, int, str], Difference]
  common_queries: tuple[int, int] | None
  left_out: Sequence[str]

  @property
  def others(self) -> list[Setting]:
    """All settings but the baseline."""
    return [setting for setting in self.settings if setting is not self.baseline]

  @property
  def num_tests(self) -> int:
    """How many differences were tested."""
    return sum(one.test is not None for one in self.differences.values())

  @property
  def num_runs(self) -> int:
    """Of all settings."""
    return sum(len(setting.runs) for setting in self.settings)


def compare(
  paths: Sequence[Place], *, round: int | None = None, baseline: str | None = None
) -> Comparison:
  """Reads and compares runs.

  Args:
    paths: of runs and of folders of runs (`find_runs`).
    round: what tables and tests are of; None takes the last that all runs have finished.
    baseline: a setting or a run of it (`find_baseline`); None takes the first setting.

  Raises:
    ConfigError: the runs cannot be compared; the message says why.
  """
  if round is not None and round < 0:
    raise ConfigError(f"--round is {round}; it must be 0, the start, or a later round.")
  runs, left_out = find_runs(paths, round)
  settings = make_settings(runs)
  against = find_baseline(settings, baseline)
  if round is None:
    round = max(set.intersection(*(set(run.rounds) for run in runs)))
  others = [setting for setting in settings if setting is not against]
  counts = [count for other in others for count in check_pairs(other, against, round)]
  rounds = sorted({number for run in runs for number in run.rounds})
  numbers = all_numbers(settings)
  differences = {
    (other.name, number, name): difference
    for other in others
    for number in rounds
    for name, difference in differences_of(other, against, number, numbers).items()
  }
  family = [place for place in differences if place[1] == round and is_tested(place[2])]
  differences |= zip(family, tested([differences[place] for place in family]), strict=True)
  return Comparison(
    settings=settings,
    baseline=against,
    round=round,
    rounds=rounds,
    numbers=numbers,
    means={
      (setting.name, number, name): mean_of(setting, number, name)
      for setting in settings
      for number in rounds
      for name in numbers
    },
    differences=differences,
    common_queries=(min(counts), max(counts)) if counts else None,
    left_out=left_out,
  )
