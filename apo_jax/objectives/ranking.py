"""The ranking loss of a reward model, from the Bradley-Terry model of preferences."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.normalizer import Normalizer, resolve_normalizer
from apo_jax.objectives.pairs import pairs_from_scores


def ranking_loss(
  rewards: Float[Array, "B R"],
  scores: Float[Array, "B R"],
  *,
  kind: str = "ranking",
  normalizer: Normalizer | None = None,
) -> Float[Array, ""]:
  """Returns the mean loss over all preferred pairs (i, j) of the batch.

      kind "ranking":     -log sigmoid(r_i - r_j)
      kind "difference":  -(r_i - r_j)

  "ranking" is the negative log-likelihood under Bradley-Terry, Q(i preferred to j) =
  sigmoid(r_i - r_j), the ranking loss of the APO paper (arXiv 2311.08045); "difference" is the
  margin of its unrelaxed game. A batch without pairs gives 0 with zero gradients.

  Args:
    rewards: float [B, R], the reward model's outputs r.
    scores: float [B, R], the preferences: the higher score is preferred, equal scores make no
      pair, a score below 0 marks padding.
    kind: "ranking" or "difference".
    normalizer: positive denominator of the sum; None for the number of pairs in this batch,
      `count_pairs(scores)`, at least 1.

  Raises:
    ValueError: if `kind` is none of these.
  """
  rewards = rewards.astype(jnp.float32)
  pairs = pairs_from_scores(scores, scores >= 0)
  # Masked before the loss as well as after it, so that padding cannot reach the gradient.
  margins = jnp.where(pairs, rewards[:, :, None] - rewards[:, None, :], 0.0)
  if kind == "ranking":
    losses = -jax.nn.log_sigmoid(margins)
  elif kind == "difference":
    losses = -margins
  else:
    raise ValueError(f'kind is {kind!r}; it must be "ranking" or "difference".')
  total = jnp.sum(jnp.where(pairs, losses, 0.0))
  return total / resolve_normalizer(count_pairs(scores), normalizer)


def count_pairs(scores: Float[Array, "B R"]) -> Float[Array, ""]:
  """Returns the number of preferred pairs, each counted once; scores below 0 mark padding."""
  return jnp.sum(pairs_from_scores(scores, scores >= 0), dtype=jnp.float32)
