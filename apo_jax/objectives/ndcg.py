"""What the NDCG losses share: gains of rewards, discounts of ranks, their best sum."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import differing
from apo_jax.objectives.sums import Sums


def gains(rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Float[Array, "B R"]:
  """Returns 2^y - 1, y the rewards brought linearly to [0, 1] within each query; float32.

  Rewards of any sign and scale: as they are, a gain could be negative and the best sum of them 0.
  The worst response has gain 0, the best 1; where all are equal, and where not valid, gains are 0.
  """
  rated = differing(rewards, valid)
  rewards = jnp.where(rated, rewards.astype(jnp.float32), 0.0)
  smallest = jnp.min(jnp.where(rated, rewards, jnp.inf), axis=1, keepdims=True)
  largest = jnp.max(jnp.where(rated, rewards, -jnp.inf), axis=1, keepdims=True)
  spread = jnp.where(rated, largest - smallest, 1.0)
  return jnp.where(rated, jnp.exp2((rewards - jnp.where(rated, smallest, 0.0)) / spread) - 1, 0.0)


def discounts(num_ranks: int) -> Float[Array, " R"]:
  """Returns 1 / log2(k + 1) of the ranks k = 1, 2, …"""
  return 1 / jnp.log2(jnp.arange(num_ranks, dtype=jnp.float32) + 2)


def ideal(gains: Float[Array, "B R"]) -> Float[Array, " B"]:
  """Returns the largest sum of discounted gains: that of the responses in the order of rewards."""
  ordered = jnp.sort(gains, axis=1, descending=True)
  return jnp.sum(ordered * discounts(gains.shape[1]), axis=1)


def ndcg_sums(discounted: Float[Array, " B"], best: Float[Array, " B"]) -> Sums:
  """Returns the sums of -NDCG over the queries that have any gain, from its two parts."""
  counted = best > 0
  ndcg = jnp.where(counted, discounted / jnp.where(counted, best, 1.0), 0.0)
  total = jnp.sum(ndcg)
  return Sums(-total, jnp.sum(counted, dtype=jnp.float32), {"ndcg": total})
