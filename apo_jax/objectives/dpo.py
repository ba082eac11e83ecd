"""Direct Preference Optimization on pairs formed from scored responses."""

import dataclasses
from typing import ClassVar

import jax
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import log_ratios
from apo_jax.objectives.pairs import Pairs, pair_sums, read_by_pairs
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class DPO(PolicyLoss):
  """DPO (arXiv 2305.18290, equation 7), a mean over pairs.

      h(y)   = beta * (log pi(y | x) - log pi_ref(y | x))     the implicit reward
      margin = h(y_w) - h(y_l)
      L      = -log sigmoid(margin)

  The pairs (w, l) are those of `pairs_from_scores(rewards, valid, pairs)`.

  Attributes:
    beta: the strength of the pull towards the reference policy.
    pairs: the pairs of a query.
  """

  name: ClassVar[str] = "dpo"
  order_only: ClassVar[bool] = True
  beta: PositiveFloat = 0.1
  pairs: Pairs = "best_worst"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over pairs; metrics are `margin` and `accuracy`, pairs of margin > 0.

    A pair of margin 0, as all are where policy and reference are one, is a half.
    """
    implicit = self.beta * log_ratios(responses)
    return pair_sums(implicit, responses, self.pairs, lambda margin: -jax.nn.log_sigmoid(margin))

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns the best and the worst response of every query, or with other pairs all."""
    return read_by_pairs(rewards, valid, self.pairs)
