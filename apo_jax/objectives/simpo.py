"""SimPO: pairs ranked by log-probability a token, without a reference policy."""

import dataclasses
from typing import ClassVar

import jax
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import per_token
from apo_jax.objectives.pairs import Pairs, pair_sums, read_by_pairs
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import NonNegativeFloat, PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class SimPO(PolicyLoss):
  """SimPO (arXiv 2405.14734), a mean over pairs; it reads no reference.

      p(y)   = beta * log pi(y | x) / |y|
      margin = p(y_w) - p(y_l)
      L      = -log sigmoid(margin - gamma)

  Defaults are the paper's as TRL's documentation gives them. Checked against TRL's code, which has
  it as a loss of its CPOTrainer.

  Attributes:
    beta: the scale of the log-probability a token.
    gamma: the margin that is wanted.
    pairs: the pairs of a query.
  """

  name: ClassVar[str] = "simpo"
  order_only: ClassVar[bool] = True
  beta: PositiveFloat = 2.5
  gamma: NonNegativeFloat = 1.375
  pairs: Pairs = "best_worst"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over pairs; metrics are `margin`, before gamma, and `accuracy`."""
    scores = self.beta * per_token(responses.logprobs, responses)

    def cost(margin: Float[Array, "B R R"]) -> Float[Array, "B R R"]:
      return -jax.nn.log_sigmoid(margin - self.gamma)

    return pair_sums(scores, responses, self.pairs, cost)

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns the best and the worst response of every query, or with other pairs all."""
    return read_by_pairs(rewards, valid, self.pairs)
