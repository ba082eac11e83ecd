"""Rejection sampling: the policy imitates its own best-scored response."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.likelihood import negative_log_likelihood
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.selection import best_response, only
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class RejectionSampling(PolicyLoss):
  """Rejection sampling (Llama 2, arXiv 2307.09288, section 3.2.3; RJS in arXiv 2311.08045).

      L = mean over queries of -log pi(y_best | x)

  y_best is the valid response with the highest reward, the first on ties. Queries without a valid
  response do not count.
  """

  name: ClassVar[str] = "rjs"
  compares: ClassVar[bool] = False

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over queries, in nats."""
    best = self.reads(responses.rewards, responses.valid)
    total = negative_log_likelihood(responses.logprobs, best)
    return Sums(total, count_queries(responses.valid), {})

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns the best response of every query."""
    return only(best_response(rewards, valid), valid)


def count_queries(valid: Bool[Array, "B R"]) -> Float[Array, ""]:
  """Returns the number of queries with at least one valid response."""
  return jnp.sum(jnp.any(valid, axis=1), dtype=jnp.float32)
