"""The best and the worst of a query's responses, and which are preferred to which."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def best_response(rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Int[Array, " B"]:
  """Returns the index of each query's valid response of the highest reward, the first on ties.

  Rewards must be finite where valid. A query without a valid response gives 0.
  """
  return jnp.argmax(jnp.where(valid, rewards.astype(jnp.float32), -jnp.inf), axis=1)


def worst_response(rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Int[Array, " B"]:
  """Returns the index of each query's valid response of the lowest reward, the first on ties."""
  return best_response(-rewards, valid)


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
  is_best = only(best_response(scores, valid), valid)
  if selection == "best_rest":
    return pairs & is_best[:, :, None]
  if selection == "best_worst":
    is_worst = only(worst_response(scores, valid), valid)
    return pairs & is_best[:, :, None] & is_worst[:, None, :]
  raise ValueError(f'selection is {selection!r}; it must be "all", "best_worst" or "best_rest".')


def only(index: Int[Array, " B"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
  """Returns True at each query's `index`, where that response is valid."""
  return valid & (jnp.arange(valid.shape[1]) == index[:, None])


def not_unfinished(
  rewards: Float[Array, "B R"],
  valid: Bool[Array, "B R"],
  finished: Bool[Array, "B R"],
  unfinished: str,
) -> Bool[Array, "B R"]:
  """Returns the valid responses that a policy may learn from, by what is done with unfinished ones.

  Args:
    rewards: float [B, R], finite where valid.
    valid: bool [B, R], False marks padding and empty responses.
    finished: bool [B, R], False where a response ran into the limit.
    unfinished: "never_best" leaves out unfinished responses that no finished one of their query
      beats, so that none is the best where a finished one exists; "as_is" none; "drop" all.

  Raises:
    ValueError: if `unfinished` is none of these.
  """
  if unfinished == "as_is":
    return valid
  if unfinished == "drop":
    return valid & finished
  if unfinished == "never_best":
    rewards = rewards.astype(jnp.float32)
    best = jnp.max(jnp.where(valid & finished, rewards, -jnp.inf), axis=1, keepdims=True)
    return valid & (finished | (rewards < best) | jnp.isneginf(best))
  raise ValueError(f'unfinished is {unfinished!r}; it must be "never_best", "as_is" or "drop".')
