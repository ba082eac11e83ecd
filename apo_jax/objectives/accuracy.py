"""How often a reward model agrees with the preferences."""

from jaxtyping import Array, Float

from apo_jax.objectives.ranking import ranking_loss


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
  sums = ranking_loss(rewards, scores)
  return sums.metrics["accuracy"] / sums.count
