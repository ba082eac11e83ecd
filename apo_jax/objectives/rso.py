"""RSO's rejection sampling: samples that stand for the optimal policy, not for who drew them."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from apo_jax.objectives.ranges import PositiveFloat, PositiveInt
from apo_jax.objectives.sample_selection import Selection


@dataclasses.dataclass(frozen=True)
class RejectionSelection(Selection):
  """Statistical rejection sampling (RSO, arXiv 2309.06657, algorithm 1).

  The optimal policy of a reward within a KL of strength beta is pi(y | x) exp(r(x, y) / beta), up
  to a factor; samples of pi become its samples where each is accepted with probability

      exp((r - r_max) / beta)

  In passes over the samples that are left, r_max being their highest reward, those that are
  accepted stay, in their order, until there are `number`. A large beta draws evenly, a small one
  takes the best. RSO's policy loss is "hinge" or "dpo" on the pairs of what stays.

  Attributes:
    beta: in units of the reward.
    number: samples that stay of a query, or all where it has no more.
  """

  name: ClassVar[str] = "rso"
  beta: PositiveFloat = 0.5
  number: PositiveInt = 8

  def __call__(
    self,
    rewards: Float[Array, "Q S"],
    valid: Bool[Array, "Q S"],
    keys: UInt32[Array, "Q 2"],
  ) -> Bool[Array, "Q S"]:
    """Returns which samples stay, `number` of a query or all that are valid."""
    return jax.vmap(self._accept)(rewards.astype(jnp.float32), valid, keys)

  def _accept(
    self, rewards: Float[Array, " S"], valid: Bool[Array, " S"], key: UInt32[Array, "2"]
  ) -> Bool[Array, " S"]:
    """Those of one query."""

    def is_short(state: tuple[Bool[Array, " S"], Array]) -> Bool[Array, ""]:
      accepted, _ = state
      return (jnp.sum(accepted) < self.number) & jnp.any(valid & ~accepted)

    def another_pass(state: tuple[Bool[Array, " S"], Array]) -> tuple[Bool[Array, " S"], Array]:
      accepted, key = state
      key, of_pass = jax.random.split(key)
      left = valid & ~accepted
      best = jnp.max(jnp.where(left, rewards, -jnp.inf))
      # The best is always accepted, so that every pass adds one.
      chance = jnp.exp((rewards - best) / self.beta)
      taken = left & (jax.random.uniform(of_pass, rewards.shape) < chance)
      room = self.number - jnp.sum(accepted)
      return accepted | (taken & (jnp.cumsum(taken) <= room)), key

    start = jnp.zeros_like(valid), jax.random.wrap_key_data(key, impl="threefry2x32")
    return jax.lax.while_loop(is_short, another_pass, start)[0]

  def most(self, num_samples: int) -> int:
    """Returns `number`, or all where there are no more."""
    return min(self.number, num_samples)
