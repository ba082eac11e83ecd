"""NeuralNDCG: responses sorted by a relaxed permutation matrix."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import ABSENT, log_ratios
from apo_jax.objectives.ndcg import discounts, gains, ideal, ndcg_sums
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.sums import Sums

# Rows and columns are brought to sum 1 so often; the authors' code stops earlier at errors of 1e-6.
_SINKHORN_STEPS = 50
_LEAST_SHARE = 1e-10


@dataclasses.dataclass(frozen=True)
class NeuralNDCG(PolicyLoss):
  """NeuralNDCG on a policy's log-ratios (OPO, arXiv 2410.04346), a mean over queries.

      s   = beta * (log pi(y | x) - log pi_ref(y | x)), of n responses
      P_k = softmax over j of ((n + 1 - 2k) * s_j - sum over l of |s_j - s_l|) / tau
      L   = -NDCG = -sum over ranks k of (P G)_k / log2(1 + k) / (the largest such sum)

  P is NeuralSort (arXiv 1903.08850), whose rows and then columns are divided by their sums in turn
  (Sinkhorn) until both are 1. Gains G are of rewards brought to [0, 1] within the query
  (`ndcg.gains`). A query whose rewards are all equal does not count. Checked against the authors'
  code, which rounds P to half precision and divides 50 times at most, as here.

  Attributes:
    beta: the scale of the log-ratios.
    tau: the temperature; the permutation is exact at 0.
  """

  name: ClassVar[str] = "ndcg_neuralsort"
  beta: PositiveFloat = 0.1
  tau: PositiveFloat = 0.1

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over queries; the metric is the relaxed `ndcg`."""
    valid = responses.valid
    sorting = relaxed_permutation(self.beta * log_ratios(responses), valid, self.tau)
    gained = gains(responses.rewards, valid)
    at_rank = jnp.einsum("bkj,bj->bk", sorting, gained)
    return ndcg_sums(jnp.sum(at_rank * discounts(valid.shape[1]), axis=1), ideal(gained))


def relaxed_permutation(
  scores: Float[Array, "B R"], valid: Bool[Array, "B R"], tau: float
) -> Float[Array, "B R R"]:
  """Returns for each rank, the highest score's first, how much it takes of each response.

  Args:
    scores: float32 [B, R], finite.
    valid: bool [B, R]; padding has no part in a rank, and ranks beyond the valid ones are empty.
    tau: the temperature.
  """
  num_responses = scores.shape[1]
  count = jnp.sum(valid, axis=1)
  both = valid[:, :, None] & valid[:, None, :]
  distances = jnp.where(both, jnp.abs(scores[:, :, None] - scores[:, None, :]), 0.0)
  ranks = jnp.arange(num_responses) + 1
  slopes = (count[:, None] + 1 - 2 * ranks).astype(jnp.float32)
  logits = slopes[:, :, None] * scores[:, None, :] - jnp.sum(distances, axis=2)[:, None, :]
  filled = (ranks <= count[:, None])[:, :, None] & valid[:, None, :]
  shares = jax.nn.softmax(jnp.where(filled, logits / tau, ABSENT), axis=2)
  # No response is without a share: one that no rank takes would be divided by nearly 0.
  sorting = jnp.where(filled, shares + _LEAST_SHARE, 0.0)

  def divided(sorting: Float[Array, "B R R"], axis: int) -> Float[Array, "B R R"]:
    total = jnp.sum(sorting, axis=axis, keepdims=True)
    return sorting / jnp.where(total > 0, total, 1.0)

  def step(sorting: Float[Array, "B R R"], _: None) -> tuple[Float[Array, "B R R"], None]:
    return divided(divided(sorting, 1), 2), None

  return jax.lax.scan(step, sorting, length=_SINKHORN_STEPS)[0]
