"""ORPO: imitation of the preferred response and the odds ratio of a pair, without a reference."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import per_token
from apo_jax.objectives.likelihood import imitated
from apo_jax.objectives.pairs import Pairs, pair_sums, read_by_pairs
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import NonNegativeFloat
from apo_jax.objectives.selection import pairs_from_scores
from apo_jax.objectives.sums import Sums

# log(1 - p) of a response that is certain is minus infinity: no token's mean log-probability counts
# as nearer to 0 than this.
_LARGEST_LOGPROB = -1e-6


@dataclasses.dataclass(frozen=True)
class ORPO(PolicyLoss):
  """ORPO (arXiv 2403.07691), a mean over pairs; it reads no reference.

      p(y)    = exp(log pi(y | x) / |y|)
      odds(y) = p(y) / (1 - p(y))
      margin  = log odds(y_w) - log odds(y_l)
      L       = -log p(y_w) - beta * log sigmoid(margin)

  Every pair imitates its y_w, so that with `pairs="all"` the better of any two is imitated. TRL's
  code, which the odds ratio is checked against, imitates the query with it and takes that mean over
  the batch's tokens.

  Attributes:
    beta: lambda, the weight of the odds ratio.
    pairs: the pairs of a query.
  """

  name: ClassVar[str] = "orpo"
  order_only: ClassVar[bool] = True
  beta: NonNegativeFloat = 0.1
  pairs: Pairs = "best_worst"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over pairs; metrics are `margin`, `accuracy`, `sft_loss` and `odds_loss`."""
    logprobs = jnp.minimum(per_token(responses.logprobs, responses), _LARGEST_LOGPROB)
    log_odds = logprobs - jnp.log(-jnp.expm1(logprobs))
    odds = pair_sums(log_odds, responses, self.pairs, lambda margin: -jax.nn.log_sigmoid(margin))
    costs, tokens = imitated(responses)
    costs = jnp.where(responses.valid, costs / jnp.maximum(tokens, 1.0), 0.0)
    preferred = pairs_from_scores(responses.rewards, responses.valid, self.pairs)
    sft_loss = jnp.sum(jnp.sum(preferred, axis=2, dtype=jnp.float32) * costs)
    return Sums(
      total=sft_loss + self.beta * odds.total,
      count=odds.count,
      metrics={**odds.metrics, "sft_loss": sft_loss, "odds_loss": odds.total},
    )

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns the best and the worst response of every query, or with other pairs all."""
    return read_by_pairs(rewards, valid, self.pairs)
