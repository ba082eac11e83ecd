"""Direct Nash Optimization: a policy's responses against each other, with soft labels."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from apo_jax.objectives.groups import log_ratios, win_rates
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class DNO(PolicyLoss):
  """Direct Nash Optimization (arXiv 2404.03715, algorithm 1), a mean over pairs.

      h(y)   = beta * (log pi(y | x) - log pi_ref(y | x))
      p_ij   = sigmoid(label_scale * (w_i - w_j)),   w a response's win rate (`groups.win_rates`)
      L      = -p_ij * log sigmoid(h_i - h_j) - (1 - p_ij) * log sigmoid(h_j - h_i)     for i < j

  over all pairs of a query: DPO with soft labels. The reference is the policy that drew the
  samples, with which the round starts. Equation and defaults are the paper's text; its code is not
  public. As w lies in [0, 1], a scale of 1 makes labels within [0.27, 0.73]; 4 to 10 are sharper
  and want a larger beta.

  Attributes:
    beta: the paper's eta.
    label_scale: how sharp labels are; the paper's 1.
  """

  name: ClassVar[str] = "dno"
  reference: ClassVar[Literal["any", "round_start"]] = "round_start"
  beta: PositiveFloat = 0.1
  label_scale: PositiveFloat = 1.0

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over pairs; the metric `accuracy` counts those ordered as their win rates.

    Where either is a tie, a pair is a half.
    """
    valid = responses.valid
    once = jnp.triu(jnp.ones((valid.shape[1],) * 2, bool), 1)
    pairs = valid[:, :, None] & valid[:, None, :] & once
    wins = win_rates(responses.rewards, valid)
    leads = wins[:, :, None] - wins[:, None, :]
    labels = jax.nn.sigmoid(self.label_scale * leads)
    implicit = self.beta * log_ratios(responses)
    margins = jnp.where(pairs, implicit[:, :, None] - implicit[:, None, :], 0.0)
    costs = labels * jax.nn.log_sigmoid(margins) + (1 - labels) * jax.nn.log_sigmoid(-margins)
    agreed = (1.0 + jnp.sign(margins) * jnp.sign(leads)) / 2
    return Sums(
      total=-jnp.sum(jnp.where(pairs, costs, 0.0)),
      count=jnp.sum(pairs, dtype=jnp.float32),
      metrics={"accuracy": jnp.sum(jnp.where(pairs, agreed, 0.0))},
    )
