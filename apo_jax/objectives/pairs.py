"""Which of a query's responses are preferred to which, by their scores."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def pairs_from_scores(
  scores: Float[Array, "B R"], valid: Bool[Array, "B R"], selection: str = "all"
) -> Bool[Array, "B R R"]:
  """Returns the preferred pairs: [b, i, j] is True where response i is preferred to j.

  A pair needs both responses valid and `scores[b, i] > scores[b, j]`; equal scores make no pair.

  Args:
    scores: float [B, R], higher is better, any unit.
    valid: bool [B, R], False marks padding, whose scores are ignored.
    selection: which of the pairs to keep, with the first index taken on ties:
      "all": every pair;
      "best_worst": the best valid response against the worst, at most one pair a query;
      "best_rest": the best valid response against every valid response with a lower score.

  Raises:
    ValueError: if `selection` is none of these.
  """
  scores = scores.astype(jnp.float32)
  both_valid = valid[:, :, None] & valid[:, None, :]
  pairs = both_valid & (scores[:, :, None] > scores[:, None, :])
  if selection == "all":
    return pairs

  index = jnp.arange(scores.shape[1])
  best = jnp.argmax(jnp.where(valid, scores, -jnp.inf), axis=1)
  is_best = index == best[:, None]
  if selection == "best_rest":
    return pairs & is_best[:, :, None]
  if selection == "best_worst":
    worst = jnp.argmin(jnp.where(valid, scores, jnp.inf), axis=1)
    is_worst = index == worst[:, None]
    return pairs & is_best[:, :, None] & is_worst[:, None, :]
  raise ValueError(f'selection is {selection!r}; it must be "all", "best_worst" or "best_rest".')
