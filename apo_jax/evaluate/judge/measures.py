"""What a judge's verdicts are worth: agreement, biases, self-consistency, and all of it de-noised.

After arXiv 2408.13006. Of item i, c1 says whether ours was picked when it was shown first, c2 when
it was shown second; with pairs that people have judged, ours is what they preferred.

    accuracy_both     mean c1 c2
    accuracy_random   mean (c1 + c2) / 2
    position_bias     mean c1 - mean c2           above 0 where the first position is preferred
    length_bias       Acc(ours is longer) - Acc(ours is shorter), of (c1 + c2) / 2

A judge that is asked the same twice may answer differently. Of K repeats of a question, c of which
pick ours, 2 c (K - c) / (K (K - 1)) estimates d = 2 q (1 - q), where q is the probability that an
answer is flipped; so q = (1 - sqrt(1 - 2 d)) / 2. An observed rate is (1 - q) p + q (1 - p) of the
judge's own p, which gives p = (observed - q) / (1 - 2 q), differences of rates divided by 1 - 2 q,
and the joint table of (c1, c2) by (F1 x F2) t = observed with F = [[1 - q, q], [q, 1 - q]]. Above
q = 0.45 too little is left of the answers, and nothing is de-noised.

Between two policies a win counts only where both orders agree; all else is a tie, half a win.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from apo_jax.evaluation.length_control import length_controlled_win_rate
from apo_jax.evaluation.uncertainty import Estimate, jackknife

LARGEST_FLIP = 0.45


class Votes(NamedTuple):
  """Verdicts of n comparisons, each answered in both orders.

  Attributes:
    picks: as in `asking.Answers`; the first repeat is never nan.
    differences: how much longer ours is, in characters.
  """

  picks: Float[ndarray, "n 2 K"]
  differences: Float[ndarray, " n"]

  def take(self, rows: ndarray) -> "Votes":
    """Some of them."""
    return Votes(self.picks[rows], self.differences[rows])


def answered(
  picks: Float[ndarray, "n 2 K"], differences: Float[ndarray, " n"]
) -> tuple[Bool[ndarray, " n"], Votes]:
  """Which comparisons have a verdict in both orders, and those."""
  both = np.all(np.isfinite(picks[:, :, 0]), axis=1)
  return both, Votes(picks, differences).take(both)


def preference_measures(votes: Votes) -> dict[str, Estimate]:
  """A judge against people's preferences, whose preferred response is ours."""
  return _jackknifed(votes, _on_preferences)


def win_measures(votes: Votes) -> dict[str, Estimate]:
  """A judge of two policies: our win rate, and the judge's biases."""
  measures = _jackknifed(votes, _on_policies)
  controlled = length_controlled_win_rate(win_values(votes), votes.differences)
  first, *others = measures
  return {
    first: measures[first],
    "length_controlled_win_rate": controlled,
    **{name: measures[name] for name in others},
  }


def win_values(votes: Votes) -> Float[ndarray, " n"]:
  """1 where both orders pick ours, 0 where both pick theirs, else 1/2."""
  first = votes.picks[:, :, 0]
  return np.where(np.all(first == 1, axis=1), 1.0, np.where(np.all(first == 0, axis=1), 0.0, 0.5))


def flip_probability(repeats: Float[ndarray, "n K"]) -> float:
  """q, from repeated answers; nan without an item that was answered twice.

  Args:
    repeats: 1 where ours was picked, 0 where not, nan where there is no answer.
  """
  count = np.sum(np.isfinite(repeats), axis=1).astype(float)
  picked = np.nansum(repeats, axis=1)
  several = count > 1
  if not np.any(several):
    return float("nan")
  count, picked = count[several], picked[several]
  differ = float(np.mean(2 * picked * (count - picked) / (count * (count - 1))))
  return (1 - np.sqrt(max(1 - 2 * differ, 0.0))) / 2


def denoised_rate(observed: float, flip: float) -> float:
  """The judge's own rate, in [0, 1], from the observed one; nan where q is too large or unknown."""
  if not flip <= LARGEST_FLIP:
    return float("nan")
  return float(np.clip((observed - flip) / (1 - 2 * flip), 0.0, 1.0))


def denoised_both(c: Bool[ndarray, "n 2"], flips: Sequence[float]) -> float:
  """The judge's own rate of c1 and c2 together, in [0, 1]; nan as in `denoised_rate`."""
  if not all(flip <= LARGEST_FLIP for flip in flips):
    return float("nan")
  places = 2 * c[:, 0].astype(int) + c[:, 1]
  observed = np.bincount(places, minlength=4) / len(c)
  one, other = (np.array([[1 - q, q], [q, 1 - q]]) for q in flips)
  return float(np.clip(np.linalg.solve(np.kron(one, other), observed)[3], 0.0, 1.0))


def _jackknifed(votes: Votes, measure) -> dict[str, Estimate]:
  """Every measure with what it is without each item."""
  count = len(votes.differences)
  if not count:
    return {}
  whole = measure(votes)
  others = ~np.eye(count, dtype=bool)
  each = [measure(votes.take(rows)) for rows in others] if count > 1 else []
  return {
    name: jackknife(value, np.array([one[name] for one in each]) if each else np.full(1, np.nan))
    for name, value in whole.items()
  }


def _on_preferences(votes: Votes) -> dict[str, float]:
  c = votes.picks[:, :, 0] == 1
  flips, pooled = _flips(votes, 1.0)
  return {
    "accuracy_both": float(np.mean(np.all(c, axis=1))),
    "accuracy_both_denoised": denoised_both(c, flips),
    "accuracy_random": float(np.mean(c)),
    "accuracy_random_denoised": denoised_rate(float(np.mean(c)), pooled),
    **_judge_itself(votes, c, flips, pooled),
  }


def _on_policies(votes: Votes) -> dict[str, float]:
  first = votes.picks[:, :, 0]
  c, lost = first == 1, first == 0
  flips, pooled = _flips(votes, 1.0)
  own_wins, own_losses = denoised_both(c, flips), denoised_both(lost, _flips(votes, 0.0)[0])
  return {
    "win_rate": float(np.mean(win_values(votes))),
    "win_rate_denoised": (1 + own_wins - own_losses) / 2,
    "wins": float(np.mean(np.all(c, axis=1))),
    "losses": float(np.mean(np.all(lost, axis=1))),
    **_judge_itself(votes, c, flips, pooled),
  }


def _judge_itself(
  votes: Votes, c: Bool[ndarray, "n 2"], flips: Sequence[float], pooled: float
) -> dict[str, float]:
  """The judge's biases and its self-consistency."""
  first, second = np.mean(c, axis=0)
  bias = float(first - second)
  mean_pick, sign = np.mean(c, axis=1), np.sign(votes.differences)
  length_bias = _mean(mean_pick[sign > 0]) - _mean(mean_pick[sign < 0])
  keeps = 1 - 2 * pooled if pooled <= LARGEST_FLIP else float("nan")
  verdicts = votes.picks[:, :, 0]
  return {
    "orders_disagree": float(np.mean(np.abs(verdicts[:, 0] - verdicts[:, 1]) == 1)),
    "position_bias": bias,
    "position_bias_denoised": float(np.clip(bias / keeps, -1.0, 1.0)),
    "length_bias": length_bias,
    "length_bias_denoised": float(np.clip(length_bias / keeps, -1.0, 1.0)),
    "flip_probability": pooled,
    "flip_probability_first": flips[0],
    "flip_probability_second": flips[1],
  }


def _flips(votes: Votes, pick: float) -> tuple[tuple[float, float], float]:
  """q of the answer `pick` with ours first and second, and of both together."""
  known = np.isfinite(votes.picks)
  events = np.where(known, votes.picks == pick, np.nan)
  first, second = flip_probability(events[:, 0]), flip_probability(events[:, 1])
  return (first, second), flip_probability(np.concatenate([events[:, 0], events[:, 1]]))


def _mean(values: Float[ndarray, " m"]) -> float:
  return float(np.mean(values)) if len(values) else float("nan")
