"""Rejection sampling: the policy imitates its own best-scored response."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Bool, Float

from apo_jax.objectives.likelihood import OverTokens, imitation
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.selection import best_response, only
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class RejectionSampling(PolicyLoss):
  """Rejection sampling (Llama 2, arXiv 2307.09288, section 3.2.3; RJS in arXiv 2311.08045).

      L = mean over tokens, or over queries, of -log pi(y_best | x)

  y_best is the valid response with the highest reward, the first on ties. Queries without a valid
  response do not count.

  Attributes:
    over_tokens: "mean" divides by the tokens of all best responses, "sum" by the queries.
  """

  name: ClassVar[str] = "rjs"
  order_only: ClassVar[bool] = True
  compares: ClassVar[bool] = False
  over_tokens: OverTokens = "mean"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over tokens or queries, in nats."""
    best = self.reads(responses.rewards, responses.valid)
    return imitation(responses, best, self.over_tokens)

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns the best response of every query."""
    return only(best_response(rewards, valid), valid)
