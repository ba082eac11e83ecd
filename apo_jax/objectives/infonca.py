"""InfoNCA: the policy's choice among a query's responses is to be that of their rewards."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import comparable, log_ratios, present
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class InfoNCA(PolicyLoss):
  """InfoNCA (arXiv 2402.05369; the equation from memory), a mean over queries.

      h(y_i) = beta * (log pi(y_i | x) - log pi_ref(y_i | x))
      t      = softmax(r / alpha) over the query's responses
      L      = -sum over i of t_i * log softmax(h)_i

  Queries with one response do not count. With two responses and alpha near 0 it is DPO. At
  alpha 1 the targets are the reward model's own probabilities that a response is the best.

  Attributes:
    beta: the strength of the pull towards the reference policy.
    alpha: the temperature of the targets, in units of the reward.
  """

  name: ClassVar[str] = "infonca"
  beta: PositiveFloat = 0.1
  alpha: PositiveFloat = 1.0

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over queries; the metric `target_entropy` is what the loss cannot be below."""
    rated = comparable(responses.valid)
    targets = reward_targets(responses.rewards, rated, self.alpha)
    scores = present(self.beta * log_ratios(responses), rated)
    logs = jnp.where(rated, jax.nn.log_softmax(scores, axis=1), 0.0)
    return Sums(
      total=-jnp.sum(targets * logs),
      count=jnp.sum(jnp.any(rated, axis=1), dtype=jnp.float32),
      metrics={"target_entropy": jnp.sum(jax.scipy.special.entr(targets))},
    )


def reward_targets(
  rewards: Float[Array, "B R"], rated: Bool[Array, "B R"], alpha: float
) -> Float[Array, "B R"]:
  """Returns softmax(r / alpha) over the rated responses of each query, 0 elsewhere."""
  scaled = jnp.where(rated, rewards.astype(jnp.float32) / alpha, 0.0)
  return jnp.where(rated, jax.nn.softmax(present(scaled, rated), axis=1), 0.0)
