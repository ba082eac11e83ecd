"""The ranking loss of a reward model, from the Bradley-Terry model of preferences."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.selection import pairs_from_scores
from apo_jax.objectives.sums import Sums


def ranking_loss(
  rewards: Float[Array, "B R"], scores: Float[Array, "B R"], *, kind: str = "ranking"
) -> Sums:
  """Returns sums over all preferred pairs (i, j) of the batch.

      kind "ranking":     -log sigmoid(r_i - r_j)
      kind "difference":  -(r_i - r_j)

  "ranking" is the negative log-likelihood under Bradley-Terry, Q(i preferred to j) =
  sigmoid(r_i - r_j), the ranking loss of the APO paper (arXiv 2311.08045); "difference" is the
  margin of its unrelaxed game.

  Args:
    rewards: float [B, R], the reward model's outputs r.
    scores: float [B, R], the preferences: the higher score is preferred, equal scores make no
      pair, a score below 0 marks padding.
    kind: "ranking" or "difference".

  Returns:
    The sums; metrics are `margin`, the sum of r_i - r_j, and `accuracy`, the pairs of positive
    margin, those of margin 0 as a half.

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
  right = (1.0 + jnp.sign(margins)) / 2
  return Sums(
    total=jnp.sum(jnp.where(pairs, losses, 0.0)),
    count=jnp.sum(pairs, dtype=jnp.float32),
    metrics={
      "margin": jnp.sum(margins),
      "accuracy": jnp.sum(jnp.where(pairs, right, 0.0)),
    },
  )
