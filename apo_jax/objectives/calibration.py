"""Whether a reward model's predicted probabilities of preference are true to frequency."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.selection import pairs_from_scores


def calibration_errors(
  rewards: Float[Array, "B R"], scores: Float[Array, "B R"], *, num_bins: int = 10
) -> dict[str, Float[Array, "..."]]:
  """Returns the expected, average and maximum calibration error over uniform bins.

  Every ordered pair (i, j) of valid responses with different scores, so each pair in both
  orders, has a predicted probability p = sigmoid(r_i - r_j) and a label, 1 if s_i > s_j else 0.
  Bin k of n = `num_bins` holds k/n < p <= (k+1)/n, and the first bin also p = 0, so p = 1 falls
  in the last. In a bin with n_k pairs, confidence is the mean p and accuracy the mean label, and

      ECE = sum_k n_k / N * |accuracy_k - confidence_k|       (Guo et al., arXiv 1706.04599)
      ACE = mean of |accuracy_k - confidence_k| over the bins that are not empty
      MCE = max  of |accuracy_k - confidence_k| over the bins that are not empty

  Under `jax.jit`, `num_bins` is static.

  Args:
    rewards: float [B, R], the reward model's outputs r.
    scores: float [B, R], the preferences; equal scores make no pair, below 0 marks padding.
    num_bins: the number of bins, at least 1.

  Returns:
    Float32 scalars "ece", "ace", "mce" (nan without any pair) and, each of shape [num_bins],
    "confidence" and "accuracy" (nan where the bin is empty) and "count", the n_k.
  """
  rewards = rewards.astype(jnp.float32)
  better = pairs_from_scores(scores, scores >= 0)
  ordered = (better | jnp.swapaxes(better, 1, 2)).astype(jnp.float32)
  probabilities = jax.nn.sigmoid(rewards[:, :, None] - rewards[:, None, :])

  inner_edges = jnp.linspace(0.0, 1.0, num_bins + 1)[1:-1]
  bins = jnp.searchsorted(inner_edges, probabilities.reshape(-1), side="left")

  def bin_sums(values: Float[Array, "B R R"]) -> Float[Array, " bins"]:
    return jax.ops.segment_sum(values.reshape(-1), bins, num_segments=num_bins)

  count = bin_sums(ordered)
  confidence = bin_sums(jnp.where(ordered > 0, probabilities, 0.0)) / count
  accuracy = bin_sums(better.astype(jnp.float32)) / count

  filled = count > 0
  gaps = jnp.where(filled, jnp.abs(accuracy - confidence), 0.0)
  num_filled = jnp.sum(filled, dtype=jnp.float32)
  return {
    "ece": jnp.sum(count * gaps) / jnp.sum(count),
    "ace": jnp.sum(gaps) / num_filled,
    "mce": jnp.where(num_filled > 0, jnp.max(gaps), jnp.nan),
    "confidence": confidence,
    "accuracy": accuracy,
    "count": count,
  }
