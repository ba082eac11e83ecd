"""Calibration errors with what they are without each preference."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from apo_jax.evaluation.uncertainty import Estimate, jackknife
from apo_jax.objectives import calibration_errors


def calibration(
  rewards: Float[ndarray, "B R"], scores: Float[ndarray, "B R"], *, num_bins: int
) -> tuple[dict[str, Estimate], dict[str, Any]]:
  """The "ece", "ace" and "mce" of `objectives.calibration_errors`, and its bins.

  The maximum, "mce", jumps from bin to bin, where the jackknife is no more than a rough guide.

  Args:
    rewards: the reward model's outputs.
    scores: the higher is preferred, equal ones make no pair; below 0 marks what is no response.
    num_bins: uniform bins of confidence.

  Returns:
    The errors, nan without any pair; and, each of shape [num_bins], "confidence" and "accuracy"
    (nan where the bin is empty) and "count".
  """
  as_floats = (jnp.asarray(array, jnp.float32) for array in (rewards, scores))
  each = _bins_of_each(*as_floats, num_bins=num_bins)
  counts = np.asarray(each["count"], float)
  sums = np.stack(
    [
      counts,
      *(
        np.nan_to_num(np.asarray(each[name], float)) * counts for name in ("confidence", "accuracy")
      ),
    ]
  )
  total = np.sum(sums, axis=1, keepdims=True)
  whole, without = _errors(total), _errors(total - sums)
  estimates = {name: jackknife(float(whole[name][0]), without[name]) for name in whole}
  (count,), (confidence,), (accuracy,) = total
  with np.errstate(invalid="ignore"):
    bins = {"confidence": confidence / count, "accuracy": accuracy / count}
  return estimates, {**bins, "count": count.astype(int)}


@functools.partial(jax.jit, static_argnames="num_bins")
def _bins_of_each(
  rewards: Float[Array, "B R"], scores: Float[Array, "B R"], *, num_bins: int
) -> dict[str, Float[Array, "B bins"]]:
  """The bins of each preference by itself."""

  def bins(rewards: Float[Array, " R"], scores: Float[Array, " R"]) -> dict[str, Any]:
    found = calibration_errors(rewards[None], scores[None], num_bins=num_bins)
    return {name: found[name] for name in ("confidence", "accuracy", "count")}

  return jax.vmap(bins)(rewards, scores)


def _errors(sums: Float[ndarray, "3 n bins"]) -> Mapping[str, Float[ndarray, " n"]]:
  """The errors of n sets of pairs, from their bins' counts and sums of confidence and label."""
  count, confidence, label = sums
  # A rest of rounding is no pair: counts are whole numbers.
  gaps = np.where(count > 0.5, np.abs(label - confidence), 0.0)  # times the bin's pairs
  means = gaps / np.maximum(count, 1.0)
  filled = np.sum(count > 0.5, axis=1)
  with np.errstate(invalid="ignore"):
    return {
      "ece": np.sum(gaps, axis=1) / np.sum(count, axis=1),
      "ace": np.sum(means, axis=1) / filled,
      "mce": np.where(filled > 0, np.max(means, axis=1), np.nan),
    }
