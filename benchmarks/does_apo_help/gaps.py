"""How far rewards run ahead of the truth: the over-optimisation gap."""

import math

import numpy as np

from apo_jax.compare.runs import ComparedRun
from apo_jax.evaluation.uncertainty import Estimate

_UTILITY, _JUDGE, _MARGIN = "true_utility", "testing_reward", "golden_margin"


def gap_numbers(run: ComparedRun, round: int) -> dict[str, float]:
  """What rewards and utility have gained since round 0, on the test queries.

      utility_gain   of true utility
      judge_gain     of the testing reward, whose model is the same in all rounds
      reward_gain    of the round's own reward model's reward, less that of the golden response:
                     that model changes, and where its rewards begin means nothing
      judge_gap      judge_gain - utility_gain
      reward_gap     reward_gain - utility_gain

  All are in standard deviations over test queries in round 0, each of its own number, so that
  rewards and utilities can be compared. Above 0 a gap is reward without utility.
  """
  gains = {
    "utility_gain": _gain(run, round, _UTILITY),
    "judge_gain": _gain(run, round, _JUDGE),
    "reward_gain": 0.0 - _gain(run, round, _MARGIN),
  }
  gaps = {
    "judge_gap": gains["judge_gain"] - gains["utility_gain"],
    "reward_gap": gains["reward_gain"] - gains["utility_gain"],
  }
  return gains | gaps


def _gain(run: ComparedRun, round: int, number: str) -> float:
  start, now = (run.rounds[one].queries.estimates.get(number) for one in (0, round))
  if start is None or now is None:
    return math.nan
  spread = _spread(start)
  return (now.value - start.value) / spread if spread > 0 else math.nan


def _spread(estimate: Estimate) -> float:
  """The standard deviation over queries of what the number is the mean of."""
  return float(np.std(estimate.pseudo_values, ddof=1))
