"""What a comparison says of itself, in sentences: what errors are over, and what is tested."""

from collections.abc import Sequence

from apo_jax.compare.comparison import Comparison
from apo_jax.compare.numbers import is_tested
from apo_jax.compare.settings import judge_fields
from apo_jax.compare.statistics import SEEDS_OF_A_TEST


def errors(comparison: Comparison) -> str:
  """What stands behind ± and in bands."""
  counts = [len(setting.runs) for setting in comparison.settings]
  single = [setting.name for setting in comparison.settings if len(setting.runs) == 1]
  within = "over its test queries, or test preferences where it is they that are judged"
  if len(single) == len(counts):
    return (
      f"Every setting has one seed: behind ± is the standard error {within}. It says nothing of "
      "the game that another seed would play."
    )
  said = (
    "Numbers are means over seeds; behind ±, and in bands, is the standard error of the mean "
    f"between seeds ({_range([count for count in counts if count > 1])} a setting)."
  )
  if single:
    said += f" With one seed it is {within}, as of {_listed(single)}."
  return said


def pairs(comparison: Comparison) -> str:
  """How differences are taken."""
  said = (
    "A difference is taken seed by seed, as equal seeds have the same data, and within a seed "
    "query by query"
  )
  if comparison.common_queries:
    said += f", over the {_range(comparison.common_queries)} test queries that both runs have"
  said += "; its error is that between seeds, or with one seed in common that over its queries."
  strangers = [name for name, common in _common_seeds(comparison).items() if not common]
  if strangers:
    said += (
      f" Without a seed in common with the baseline, and so without one: {_listed(strangers)}."
    )
  return said


def tests(comparison: Comparison) -> str:
  """How many comparisons are tested, how, and which are not."""
  names = [name for name in comparison.numbers if is_tested(name)]
  few = [name for name, common in _common_seeds(comparison).items() if common < SEEDS_OF_A_TEST]
  if not comparison.num_tests:
    why = (
      f"it needs {SEEDS_OF_A_TEST} seeds in common with the baseline"
      if few
      else "the differences do not vary between seeds"
    )
    return f"No test is made: {why}."
  said = (
    f"{comparison.num_tests} comparisons are tested, those after round {comparison.round} in "
    f"{', '.join(names)}, by Student’s t-test (two-sided) of the paired differences of seeds; p is "
    f"corrected for all {comparison.num_tests} together (Holm). Other numbers are not tested."
  )
  if few:
    said += f" With fewer than {SEEDS_OF_A_TEST} seeds in common no test is made of {_listed(few)}."
  return said


def judges(comparison: Comparison) -> str:
  """That settings have other judges, where their configs say so; else nothing."""
  fields = judge_fields(comparison.settings)
  if not fields:
    return ""
  return (
    f"Settings differ in what their judges are made from ({', '.join(fields)}): testing rewards "
    "and win rates are then by judges of other strictness, and their differences mean little."
  )


def _common_seeds(comparison: Comparison) -> dict[str, int]:
  """How many seeds each other setting has in common with the baseline."""
  ours = set(comparison.baseline.seeds)
  return {setting.name: len(ours.intersection(setting.seeds)) for setting in comparison.others}


def _listed(names: Sequence[str]) -> str:
  return "; ".join(names) if len(names) <= 3 else f"{len(names)} settings"


def _range(counts: Sequence[int]) -> str:
  low, high = min(counts), max(counts)
  return f"{low}" if low == high else f"{low} to {high}"
