"""Means over seeds, and tests of paired differences.

A seed plays a game of its own, from its start to its last sample: seeds are the independent draws,
and what queries add to the error is in the spread between them. Where there is one seed alone, only
the error over its queries is known, which says nothing of another seed's game.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from apo_jax.evaluation.uncertainty import standard_error

SEEDS_OF_A_TEST = 3  # with two, Student's t has one degree of freedom, which shows next to nothing


class Estimate(NamedTuple):
  """A number, or a difference of two, with how sure it is.

  Attributes:
    value: nan where it is not known.
    standard_error: nan where it is not known.
    over: the independent draws that the error is over: "seeds", or what a single seed's is over.
    count: how many seeds the value is the mean of.
  """

  value: float
  standard_error: float
  over: str
  count: int


class Test(NamedTuple):
  """Student's t and its two-sided p-value, for the hypothesis that there is no difference."""

  t: float
  p: float


def over_seeds(values: Sequence[float], errors: Sequence[float], over: str) -> Estimate:
  """The mean of one value a seed, with its standard error between seeds.

  Args:
    values: one a seed; those that are nan are left out.
    errors: each one's own standard error, which is taken where one value alone is known.
    over: what these errors are over, such as "test queries".
  """
  known = [place for place, value in enumerate(values) if not math.isnan(value)]
  if not known:
    return Estimate(math.nan, math.nan, "", 0)
  if len(known) == 1:
    (place,) = known
    return Estimate(values[place], errors[place], over, 1)
  chosen = np.array([values[place] for place in known])
  return Estimate(float(chosen.mean()), standard_error(chosen), "seeds", len(known))


def paired_test(differences: Sequence[float]) -> Test | None:
  """Student's t-test of paired differences, one a seed; those that are nan are left out.

  None with fewer than three, and where they are all the same: then there is no spread to tell
  chance by, as before the first round, when two settings are still one game.
  """
  known = np.array([one for one in differences if not math.isnan(one)])
  if len(known) < SEEDS_OF_A_TEST or np.ptp(known) == 0:
    return None
  result = stats.ttest_1samp(known, 0.0)
  return Test(float(result.statistic), float(result.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
  """The p-values corrected for their number, so that the chance of any false finding is held.

  Of m values in ascending order the i-th becomes max_{j <= i} min(1, (m - j + 1) p_j) (Holm, Scand.
  J. Statist. 6, 1979); the tests may depend on each other in any way.
  """
  corrected = [math.nan] * len(p_values)
  largest = 0.0
  for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
    largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
    corrected[place] = largest
  return corrected
