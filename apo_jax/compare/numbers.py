"""The numbers of settings, and what each has more than the baseline."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from apo_jax.compare.runs import ComparedRun, Round
from apo_jax.compare.settings import Setting
from apo_jax.compare.statistics import Estimate, Test, holm, over_seeds, paired_test
from apo_jax.config.fields import ConfigError
from apo_jax.evaluation.uncertainty import common_places

# They say how a policy or a reward model is what it is. Only numbers of how good a policy is are
# tested, and those that a run's own evaluations add: the fewer tests, the more each can find.
_DESCRIPTIONS = frozenset(
  (
    "kl_to_start",
    "response_length",
    "golden_length",
    "unfinished",
    "golden_unfinished",
    "distinct_2",
    "distinct_samples",
    "equals_golden",
    "non_canonical",
    "empty",
    "repetition",
    "golden_margin",
    "reward_accuracy",
    "reward_ece",
    "reward_ace",
    "reward_mce",
    "testing_accuracy",
    "longer_wins_accuracy",
    "judge_error_correlation",
  )
)


class Difference(NamedTuple):
  """What a setting has more than the baseline, paired by seed and, within a seed, by query.

  Attributes:
    by_seed: each common seed's difference.
    estimate: over the seeds.
    test: of the hypothesis that there is none; None where no test is made.
    corrected_p: its p-value, corrected for all tests that are made (`holm`); nan without a test.
  """

  by_seed: dict[int, Estimate]
  estimate: Estimate
  test: Test | None = None
  corrected_p: float = math.nan


def is_tested(number: str) -> bool:
  """Whether differences in this number are tested."""
  return number not in _DESCRIPTIONS


def all_numbers(settings: Sequence[Setting]) -> list[str]:
  """The names of all numbers that any round of any run has, in the order of the files."""
  rounds = [round for setting in settings for run in setting.runs for round in run.rounds.values()]
  names = dict.fromkeys(name for round in rounds for name in round.numbers)
  return [name for name in names if any(_known(round, name) for round in rounds)]


def number_of(run: ComparedRun, round: int, name: str) -> Estimate:
  """A run's number after a round; nan where it has none."""
  judged = run.rounds.get(round)
  if judged is None:
    return Estimate(math.nan, math.nan, "", 0)
  value = judged.evaluation.get(name)
  error = judged.evaluation["standard_errors"].get(name)
  return Estimate(_float(value), _float(error), _over(judged, name), int(value is not None))


def mean_of(setting: Setting, round: int, name: str) -> Estimate:
  """The mean over the setting's seeds."""
  numbers = [number_of(run, round, name) for run in setting.runs]
  return _over_seeds(numbers)


def differences_of(
  setting: Setting, baseline: Setting, round: int, names: Sequence[str]
) -> dict[str, Difference]:
  """What a setting has more than the baseline after a round, number by number, without tests."""
  of_seeds = {
    seed: _paired(run, baseline.by_seed[seed], round, names)
    for seed, run in setting.by_seed.items()
    if seed in baseline.by_seed
  }
  found = {}
  for name in names:
    known = {seed: one[name] for seed, one in of_seeds.items() if one[name].count}
    found[name] = Difference(known, _over_seeds(list(known.values())))
  return found


def tested(differences: Sequence[Difference]) -> list[Difference]:
  """The same with a test each where one can be made, corrected for how many these are."""
  tests = [paired_test([one.value for one in each.by_seed.values()]) for each in differences]
  corrected = iter(holm([test.p for test in tests if test is not None]))
  return [
    each if test is None else each._replace(test=test, corrected_p=next(corrected))
    for each, test in zip(differences, tests, strict=True)
  ]


def check_pairs(setting: Setting, baseline: Setting, round: int) -> list[int]:
  """How many test queries each common seed's two runs have in common after a round.

  Raises:
    ConfigError: a seed's have none.
  """
  counts = []
  for seed in setting.seeds:
    if seed in baseline.by_seed:
      ours, theirs = setting.by_seed[seed], baseline.by_seed[seed]
      ids = (run.rounds[round].queries.ids for run in (ours, theirs))
      counts.append(len(common_places(*ids)[0]))
      if not counts[-1]:
        raise ConfigError(
          f"{ours.path} and {theirs.path}, both of seed {seed}, have no test query in common; give "
          "runs on the same data."
        )
  return counts


def _paired(
  ours: ComparedRun, theirs: ComparedRun, round: int, names: Sequence[str]
) -> dict[str, Estimate]:
  """The differences of two runs of a seed, query by query where they are over queries."""
  found = {}
  if round in ours.rounds and round in theirs.rounds:
    one, other = ours.rounds[round], theirs.rounds[round]
    paired = one.queries.minus(other.queries) | one.preferences.minus(other.preferences)
    for name, difference in paired.items():
      count = int(not math.isnan(difference.difference))
      found[name] = Estimate(*difference, _over(one, name), count)
  for name in names:
    if name not in found:
      value = number_of(ours, round, name).value - number_of(theirs, round, name).value
      found[name] = Estimate(value, math.nan, "", int(not math.isnan(value)))
  return found


def _over_seeds(numbers: Sequence[Estimate]) -> Estimate:
  over = next((one.over for one in numbers if not math.isnan(one.value)), "")
  return over_seeds([one.value for one in numbers], [one.standard_error for one in numbers], over)


def _over(round: Round, name: str) -> str:
  if name in round.queries.estimates:
    return "test queries"
  return "test preferences" if name in round.preferences.estimates else ""


def _known(round: Round, name: str) -> bool:
  return round.evaluation.get(name) is not None


def _float(value: float | None) -> float:
  return math.nan if value is None else float(value)
