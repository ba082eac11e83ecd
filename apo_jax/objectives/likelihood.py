"""Maximum likelihood of chosen responses: the supervised start, and a term of other losses."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.sums import Sums


def negative_log_likelihood(
  logprobs: Float[Array, "B R"], chosen: Bool[Array, "B R"]
) -> Float[Array, ""]:
  """Returns the sum of -log pi(y | x) over the chosen responses, in nats."""
  return jnp.sum(jnp.where(chosen, -logprobs.astype(jnp.float32), 0.0))


@dataclasses.dataclass(frozen=True)
class MaximumLikelihood(PolicyLoss):
  """The supervised start: every response is imitated.

      L = mean over responses of -log pi(y | x)

  No choice of a config: it reads demonstrations, which have no rewards.
  """

  compares: ClassVar[bool] = False

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over responses, in nats."""
    total = negative_log_likelihood(responses.logprobs, responses.valid)
    return Sums(total, jnp.sum(responses.valid, dtype=jnp.float32), {})
