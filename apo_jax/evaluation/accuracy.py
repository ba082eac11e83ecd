"""Whether rewards, or anything else that orders responses, agree with preferences."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from apo_jax.evaluation.uncertainty import Estimate, jackknife, ratio
from apo_jax.objectives import pairs_from_scores


def accuracy(values: Float[ndarray, "B R"], scores: Float[ndarray, "B R"]) -> Estimate:
  """The share of preferred pairs whose preferred response has the higher value; ties count half.

  With lengths as values, it is the baseline beside every accuracy of a reward model, which could
  win on length alone. Every pair counts once, however many a preference has; nan where there is no
  pair.

  Args:
    values: rewards or lengths, the higher is guessed to be preferred.
    scores: the higher is preferred, equal ones make no pair; below 0 marks what is no response.
  """
  pairs = _pairs(scores)
  right = np.sum(np.where(pairs, 1 - _errors(values), 0.0), axis=(1, 2))
  return ratio(right, np.sum(pairs, axis=(1, 2), dtype=float))


def accuracy_by_length(
  values: Float[ndarray, "B R"], lengths: Float[ndarray, "B R"], scores: Float[ndarray, "B R"]
) -> dict[str, Estimate]:
  """Accuracy where the preferred response is the longer, the shorter, and their difference.

      length_bias = Acc(. | preferred longer) - Acc(. | preferred shorter)

  (arXiv 2408.13006): above 0 where length itself is preferred. Pairs of one length are left out.

  Args:
    values: rewards, the higher is guessed to be preferred.
    lengths: of the responses.
    scores: as in `accuracy`.

  Returns:
    "accuracy_longer_preferred", "accuracy_shorter_preferred" and "length_bias"; nan without a pair.
  """
  right, by_length = 1 - _errors(values), np.sign(lengths[:, :, None] - lengths[:, None, :])
  sums = []
  for sign in (1, -1):
    pairs = _pairs(scores) & (by_length == sign)
    sums.append(np.sum(np.where(pairs, right, 0.0), axis=(1, 2)))
    sums.append(np.sum(pairs, axis=(1, 2), dtype=float))
  longer, shorter = ratio(*sums[:2]), ratio(*sums[2:])
  each = np.stack(sums)
  total = np.sum(each, axis=1, keepdims=True)
  return {
    "accuracy_longer_preferred": longer,
    "accuracy_shorter_preferred": shorter,
    "length_bias": jackknife(float(_gap(total)[0]), _gap(total - each)),
  }


def _gap(sums: Float[ndarray, "4 m"]) -> Float[ndarray, " m"]:
  """What one accuracy has more than another, from the right pairs and all pairs of both."""
  right, count, other_right, other_count = sums
  with np.errstate(invalid="ignore", divide="ignore"):
    return right / count - other_right / other_count


def error_correlation(
  values: Float[ndarray, "B R"], others: Float[ndarray, "B R"], scores: Float[ndarray, "B R"]
) -> Estimate:
  """Whether two reward models order the same pairs wrongly: the phi coefficient over pairs.

  It is Pearson's correlation of "wrong", 0 or 1 and 1/2 on ties, under the one and the other: 1
  where they err alike, 0 where their errors have nothing to do with each other. nan where one of
  them is never wrong, or always.

  Args:
    values: rewards by the one.
    others: rewards by the other.
    scores: as in `accuracy`.
  """
  pairs = _pairs(scores)
  ours, theirs = _errors(values), _errors(others)
  moments = (np.ones_like(ours), ours, theirs, ours * ours, theirs * theirs, ours * theirs)
  each = np.stack([np.sum(np.where(pairs, one, 0.0), axis=(1, 2)) for one in moments])
  total = np.sum(each, axis=1, keepdims=True)
  return jackknife(float(_correlation(total)[0]), _correlation(total - each))


def _correlation(sums: Float[ndarray, "6 n"]) -> Float[ndarray, " n"]:
  """Correlations from the sums of 1, x, y, x^2, y^2 and xy, all multiples of 1/4 and so exact."""
  count, x, y, xx, yy, xy = sums
  variances = (count * xx - x * x) * (count * yy - y * y)
  with np.errstate(invalid="ignore", divide="ignore"):
    return np.where(variances > 0, (count * xy - x * y) / np.sqrt(variances), np.nan)


def _pairs(scores: Float[ndarray, "B R"]) -> Bool[ndarray, "B R R"]:
  as_floats = jnp.asarray(scores, jnp.float32)
  return np.asarray(pairs_from_scores(as_floats, as_floats >= 0))


def _errors(values: Float[ndarray, "B R"]) -> Float[ndarray, "B R R"]:
  """How wrong it would be to prefer response i to j: 1, 1/2 on ties, or 0."""
  return (1 - np.sign(values[:, :, None] - values[:, None, :])) / 2
