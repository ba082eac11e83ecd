"""How often a reward model agrees with the preferences."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.pairs import pairs_from_scores


def preference_accuracy(
  rewards: Float[Array, "B R"], scores: Float[Array, "B R"]
) -> Float[Array, ""]:
  """Returns the fraction of preferred pairs (i, j) with r_i > r_j; r_i = r_j counts as a half.

  A constant reward thus has accuracy 1/2, that of chance. Without any pair the accuracy is
  unknown, and the result is nan.

  Args:
    rewards: float [B, R], the reward model's outputs r.
    scores: float [B, R], the preferences; equal scores make no pair, below 0 marks padding.
  """
  rewards = rewards.astype(jnp.float32)
  pairs = pairs_from_scores(scores, scores >= 0)
  margins = rewards[:, :, None] - rewards[:, None, :]
  credit = jnp.where(margins > 0, 1.0, jnp.where(margins == 0, 0.5, 0.0))
  return jnp.sum(jnp.where(pairs, credit, 0.0)) / jnp.sum(pairs, dtype=jnp.float32)
