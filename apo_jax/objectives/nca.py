"""NCA: each response against noise, by its reward, which holds likelihoods up."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from apo_jax.objectives.groups import comparable, log_ratios
from apo_jax.objectives.infonca import reward_targets
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class NCA(PolicyLoss):
  """NCA (arXiv 2402.05369; the equation for n responses from memory), a mean over queries.

      h(y_i) = beta * (log pi(y_i | x) - log pi_ref(y_i | x))
      t      = softmax(r / alpha) over the query's n responses
      L      = -sum over i of [t_i * log sigmoid(h(y_i)) + log sigmoid(-h(y_i)) / n]

  Queries with one response do not count. Unlike a margin's, its optimum has h of its own for each
  response, so that the better ones' likelihood does not fall. Two responses and alpha near 0 are
  TRL's `nca_pair`, which it is checked against.

  Attributes:
    beta: the strength of the pull towards the reference policy.
    alpha: the temperature of the targets, in units of the reward.
  """

  name: ClassVar[str] = "nca"
  beta: PositiveFloat = 0.1
  alpha: PositiveFloat = 1.0

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over queries; the metric `target_ratio` is the sum of t_i * h(y_i)."""
    rated = comparable(responses.valid)
    targets = reward_targets(responses.rewards, rated, self.alpha)
    implicit = self.beta * log_ratios(responses)
    count = jnp.maximum(jnp.sum(rated, axis=1, keepdims=True), 1)
    noise = jnp.where(rated, jax.nn.log_sigmoid(-implicit) / count, 0.0)
    return Sums(
      total=-jnp.sum(targets * jax.nn.log_sigmoid(implicit) + noise),
      count=jnp.sum(jnp.any(rated, axis=1), dtype=jnp.float32),
      metrics={"target_ratio": jnp.sum(targets * implicit)},
    )
