"""Rejection sampling: the policy imitates its own best-scored response."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from apo_jax.objectives.normalizer import Normalizer, resolve_normalizer


def rjs_loss(
  logprobs: Float[Array, "B R"],
  rewards: Float[Array, "B R"],
  valid: Bool[Array, "B R"],
  *,
  normalizer: Normalizer | None = None,
) -> Float[Array, ""]:
  """Returns the mean over queries of -log pi(y_best | x), in nats.

  y_best is the valid response with the highest reward (Llama 2, arXiv 2307.09288, section 3.2.3;
  RJS in the APO paper, arXiv 2311.08045). Queries without a valid response do not count; a batch
  without any other gives 0 with zero gradients.

  Args:
    logprobs: float [B, R], log pi(y | x), summed over the response's tokens, in nats.
    rewards: float [B, R], finite; they select and receive no gradient.
    valid: bool [B, R], False marks padding and empty responses.
    normalizer: positive denominator of the sum; None for the number of queries of this batch
      with a valid response, `count_queries(valid)`, at least 1.
  """
  best = best_response(rewards, valid)
  best_logprobs = jnp.take_along_axis(logprobs.astype(jnp.float32), best[:, None], axis=1)[:, 0]
  total = jnp.sum(jnp.where(jnp.any(valid, axis=1), -best_logprobs, 0.0))
  return total / resolve_normalizer(count_queries(valid), normalizer)


def best_response(rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Int[Array, " B"]:
  """Returns the index of each query's valid response of the highest reward, the first on ties.

  Rewards must be finite where valid. A query without a valid response gives 0.
  """
  return jnp.argmax(jnp.where(valid, rewards.astype(jnp.float32), -jnp.inf), axis=1)


def count_queries(valid: Bool[Array, "B R"]) -> Float[Array, ""]:
  """Returns the number of queries with at least one valid response."""
  return jnp.sum(jnp.any(valid, axis=1), dtype=jnp.float32)
