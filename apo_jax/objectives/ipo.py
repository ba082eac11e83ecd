"""Identity Preference Optimization: a margin is brought to a target, not to infinity."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import log_ratios, per_token
from apo_jax.objectives.likelihood import OverTokens
from apo_jax.objectives.pairs import Pairs, pair_sums, read_by_pairs
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class IPO(PolicyLoss):
  """IPO (arXiv 2310.12036, equation 17), a mean over pairs.

      h(y)   = log pi(y | x) - log pi_ref(y | x), a mean over the tokens of y or their sum
      margin = h(y_w) - h(y_l)
      L      = (margin - 1 / (2 * beta))^2

  The paper's h is of whole responses, so "sum"; TRL's DPOTrainer divides by the tokens and says
  that the paper's authors do so too. The target is the same number for either, so that a beta of
  one is none of the other's. Checked against TRL's code.

  Attributes:
    beta: tau, the strength of the pull towards the reference policy; it sets the target margin.
    over_tokens: whether h is the "mean" or the "sum" over a response's tokens.
    pairs: the pairs of a query.
  """

  name: ClassVar[str] = "ipo"
  order_only: ClassVar[bool] = True
  beta: PositiveFloat = 0.1
  over_tokens: OverTokens = "mean"
  pairs: Pairs = "best_worst"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over pairs; metrics are `margin`, in nats, and `accuracy`."""
    ratios = log_ratios(responses)
    if self.over_tokens == "mean":
      ratios = per_token(ratios, responses)
    target = 1 / (2 * self.beta)
    return pair_sums(ratios, responses, self.pairs, lambda margin: jnp.square(margin - target))

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns the best and the worst response of every query, or with other pairs all."""
    return read_by_pairs(rewards, valid, self.pairs)
