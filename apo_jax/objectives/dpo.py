"""Direct Preference Optimization on pairs formed from scored responses."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.selection import best_response, only, pairs_from_scores, worst_response
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
  beta: PositiveFloat = 0.1
  pairs: Literal["best_worst", "best_rest", "all"] = "best_worst"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over pairs; metrics are `margin` and `accuracy`, pairs of margin > 0.

    A pair of margin 0, as all are where policy and reference are one, is a half.
    """
    preferred = pairs_from_scores(responses.rewards, responses.valid, self.pairs)
    policy = responses.logprobs.astype(jnp.float32)
    implicit = self.beta * (policy - responses.reference_logprobs.astype(jnp.float32))
    # Masked before the loss as well as after it, so that padding cannot reach the gradient.
    margins = jnp.where(preferred, implicit[:, :, None] - implicit[:, None, :], 0.0)
    return Sums(
      total=jnp.sum(jnp.where(preferred, -jax.nn.log_sigmoid(margins), 0.0)),
      count=jnp.sum(preferred, dtype=jnp.float32),
      metrics={
        "accuracy": jnp.sum(jnp.where(preferred, (1.0 + jnp.sign(margins)) / 2, 0.0)),
        "margin": jnp.sum(margins),
      },
    )

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns the best and the worst response of every query, or with other pairs all."""
    if self.pairs != "best_worst":
      return valid
    best, worst = best_response(rewards, valid), worst_response(rewards, valid)
    return only(best, valid) | only(worst, valid)
