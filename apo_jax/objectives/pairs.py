"""What losses over preferred pairs share: their pairs, their sums, what they read."""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.policy_loss import ScoredResponses
from apo_jax.objectives.selection import best_response, only, pairs_from_scores, worst_response
from apo_jax.objectives.sums import Sums

# The pairs of a query, see `pairs_from_scores`.
Pairs = Literal["best_worst", "best_rest", "all"]


def pair_sums(
  scores: Float[Array, "B R"],
  responses: ScoredResponses,
  pairs: Pairs,
  cost: Callable[[Float[Array, "B R R"]], Float[Array, "B R R"]],
) -> Sums:
  """Returns the sums of `cost(s_w - s_l)` over the pairs (w, l) that the rewards prefer.

  Args:
    scores: float32 [B, R], what the policy says of each response, s.
    responses: theirs; the pairs are of its `rewards` and `valid`.
    pairs: which of them.
    cost: of margins, each by itself.

  Returns:
    Sums over pairs; metrics are `margin`, s_w - s_l, and `accuracy`, the pairs of positive margin,
    those of margin 0 as a half.
  """
  preferred = pairs_from_scores(responses.rewards, responses.valid, pairs)
  return sums_over(preferred, scores, cost)


def sums_over(
  preferred: Bool[Array, "B R R"],
  scores: Float[Array, "B R"],
  cost: Callable[[Float[Array, "B R R"]], Float[Array, "B R R"]],
) -> Sums:
  """Returns the same sums over given pairs: [b, i, j] is True where i is preferred to j."""
  # Masked before the cost as well as after it, so that padding cannot reach the gradient.
  margins = jnp.where(preferred, scores[:, :, None] - scores[:, None, :], 0.0)
  return Sums(
    total=jnp.sum(jnp.where(preferred, cost(margins), 0.0)),
    count=jnp.sum(preferred, dtype=jnp.float32),
    metrics={
      "accuracy": jnp.sum(jnp.where(preferred, (1.0 + jnp.sign(margins)) / 2, 0.0)),
      "margin": jnp.sum(margins),
    },
  )


def read_by_pairs(
  rewards: Float[Array, "B R"], valid: Bool[Array, "B R"], pairs: Pairs
) -> Bool[Array, "B R"]:
  """Returns the responses of these pairs: of "best_worst" two a query, else all that are valid."""
  if pairs != "best_worst":
    return valid
  best, worst = best_response(rewards, valid), worst_response(rewards, valid)
  return only(best, valid) | only(worst, valid)
