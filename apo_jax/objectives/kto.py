"""KTO: each response by itself is desirable or not, and is weighed as people weigh gains."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.groups import centred, log_ratios
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import NonNegativeFloat, PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class KTO(PolicyLoss):
  """KTO (arXiv 2402.01306, equation 7), a mean over labelled responses.

      h(y) = log pi(y | x) - log pi_ref(y | x)
      z    = max(0, mean of h over the batch), a constant in the gradient
      L(y) = desirable_weight   * (1 - sigmoid(beta * (h(y) - z)))     where r(x, y) > baseline
             undesirable_weight * (1 - sigmoid(beta * (z - h(y))))     where r(x, y) < baseline

  A reward at the baseline is no label. The paper estimates z, the KL divergence from the reference,
  on mismatched pairs: each query with another's response. Here it is the mean over the batch's own
  valid responses, which costs no further reading of the model. These were drawn by the policy that
  the round starts from: where that is the reference too, the mean is an estimate of
  -KL(pi_ref || pi), so that z is then mostly 0. Labels are people's in the paper. Equation and
  weights are checked against TRL's code.

  Attributes:
    beta: the strength of the pull towards the reference policy.
    desirable_weight: of responses above the baseline.
    undesirable_weight: of those below.
    baseline: the mean reward of the "query" or of the "batch", or "zero", for rewards that
      have been shaped to mean something at 0.
  """

  name: ClassVar[str] = "kto"
  whole_batch: ClassVar[bool] = True
  beta: PositiveFloat = 0.1
  desirable_weight: NonNegativeFloat = 1.0
  undesirable_weight: NonNegativeFloat = 1.0
  baseline: Literal["query", "batch", "zero"] = "query"

  @property
  def compares(self) -> bool:
    """Only a query's own baseline takes two responses to it."""
    return self.baseline == "query"

  @property
  def across_queries(self) -> bool:
    """Any other baseline is the same for all queries."""
    return self.baseline != "query"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over labelled responses; metrics are `desirable`, their share, and `kl`, z."""
    valid = responses.valid
    labels = jnp.sign(self._above_baseline(responses))
    ratios = log_ratios(responses)
    found = jnp.sum(valid, dtype=jnp.float32)
    kl = jax.lax.stop_gradient(jnp.maximum(jnp.sum(ratios) / jnp.maximum(found, 1.0), 0.0))
    # sigmoid(-x) = 1 - sigmoid(x), without the rounding of the difference.
    costs = jax.nn.sigmoid(-labels * self.beta * (ratios - kl))
    weights = jnp.where(labels > 0, self.desirable_weight, self.undesirable_weight)
    count = jnp.sum(labels != 0, dtype=jnp.float32)
    return Sums(
      total=jnp.sum(jnp.where(labels != 0, weights * costs, 0.0)),
      count=count,
      metrics={"desirable": jnp.sum(labels > 0, dtype=jnp.float32), "kl": kl * count},
    )

  def _above_baseline(self, responses: ScoredResponses) -> Float[Array, "B R"]:
    """By how much each reward is above the baseline; 0 where not valid."""
    rewards, valid = responses.rewards, responses.valid
    if self.baseline == "zero":
      return jnp.where(valid, rewards.astype(jnp.float32), 0.0)
    if self.baseline == "batch":
      return centred(rewards.reshape(1, -1), valid.reshape(1, -1)).reshape(valid.shape)
    return centred(rewards, valid)
