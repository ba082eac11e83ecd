"""SWEPO: a query's better responses against all, those far from the mean weighed more."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.groups import differing, log_ratios, present, standardised
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class SWEPO(PolicyLoss):
  """SWEPO, later W-MPO (arXiv 2412.04628), a mean over queries.

      z_i = r_i in standard deviations from its query's mean
      s_i = beta * (log pi(y_i | x) - log pi_ref(y_i | x)) + alpha * d(z_i)
      L   = logsumexp of s over all responses - logsumexp of s over those with z_i > 0

  with d(z) = |z|^power ("abs") or sign(z) * |z|^power ("signed"); with power 0 nothing is weighed.
  A query whose rewards are all equal does not count. Two responses without weights are DPO.

  Read in others' accounts of the paper, which differ in d: "abs" as its abstract and reviews tell
  it, "signed" as a note on AMPO (arXiv 2502.18293) does, which weighs the worst down. That rewards
  are standardised is ours: alpha then has no unit. The paper's defaults were not found.

  Attributes:
    beta: the strength of the pull towards the reference policy.
    alpha: how much more those count that deviate.
    deviation: which.
    power: the exponent of the deviation.
  """

  name: ClassVar[str] = "swepo"
  beta: PositiveFloat = 0.1
  alpha: NonNegativeFloat = 1.0
  deviation: Literal["abs", "signed"] = "abs"
  power: NonNegativeInt = 1

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over queries; `positive_share` is what the better ones have of exp(s)."""
    rated = differing(responses.rewards, responses.valid)
    deviations = standardised(responses.rewards, responses.valid)
    scores = self.beta * log_ratios(responses) + self.alpha * self._weights(deviations)
    # The mean of rewards that differ may still be rounded to the largest.
    positive = rated & (deviations > 0)
    counted = jnp.any(positive, axis=1)
    every = jax.nn.logsumexp(present(scores, rated), axis=1)
    better = jax.nn.logsumexp(present(scores, positive), axis=1)
    costs = jnp.where(counted, every - better, 0.0)
    return Sums(
      total=jnp.sum(costs),
      count=jnp.sum(counted, dtype=jnp.float32),
      metrics={"positive_share": jnp.sum(jnp.where(counted, jnp.exp(-costs), 0.0))},
    )

  def _weights(self, deviations: Float[Array, "B R"]) -> Float[Array, "B R"]:
    """d(z) of every response."""
    if self.power == 0:
      return jnp.zeros_like(deviations)
    sizes = jnp.abs(deviations) ** self.power
    return sizes if self.deviation == "abs" else jnp.sign(deviations) * sizes
