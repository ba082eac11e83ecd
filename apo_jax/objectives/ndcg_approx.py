"""ApproxNDCG: ranks as sums of sigmoids."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from apo_jax.objectives.groups import log_ratios
from apo_jax.objectives.ndcg import gains, ideal, ndcg_sums
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class ApproxNDCG(PolicyLoss):
  """ApproxNDCG on a policy's log-ratios (arXiv 2410.04346, 2410.18127), a mean over queries.

      s_i    = beta * (log pi(y_i | x) - log pi_ref(y_i | x))
      rank_i = 1 + sum over j != i of sigmoid(alpha * (s_j - s_i))
      L      = -NDCG = -sum over i of G_i / log2(1 + rank_i) / (the largest such sum)

  G are gains of rewards brought to [0, 1] within the query (`ndcg.gains`); the paper's come in that
  range. A query whose rewards are all equal does not count. Checked against the OPO authors' code.
  Where alpha * (s_j - s_i) is large the gradient vanishes: their published runs have alpha 25 and
  beta 0.1, DRPO's code 1.

  Attributes:
    beta: the scale of the log-ratios.
    alpha: how steep the sigmoids are.
  """

  name: ClassVar[str] = "ndcg_approx"
  beta: PositiveFloat = 0.1
  alpha: PositiveFloat = 1.0

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over queries; the metric is the approximate `ndcg`."""
    valid = responses.valid
    scores = self.alpha * self.beta * log_ratios(responses)
    others = valid[:, :, None] & valid[:, None, :] & ~jnp.eye(valid.shape[1], dtype=bool)
    behind = jax.nn.sigmoid(scores[:, None, :] - scores[:, :, None])
    ranks = 1 + jnp.sum(jnp.where(others, behind, 0.0), axis=2)
    gained = gains(responses.rewards, valid)
    return ndcg_sums(jnp.sum(gained / jnp.log2(1 + ranks), axis=1), ideal(gained))
