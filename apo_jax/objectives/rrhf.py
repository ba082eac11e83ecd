"""RRHF: the policy's log-probabilities are to rank its responses as their rewards do."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import NonNegativeFloat
from apo_jax.objectives.rjs import RejectionSampling
from apo_jax.objectives.selection import pairs_from_scores
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class RRHF(PolicyLoss):
  """RRHF (arXiv 2304.05302), a mean over queries.

      p_i = log pi(y_i | x) / |y_i|
      L   = sum over r_i < r_j of ReLU(p_i - p_j)  +  sft_coefficient * (-log pi(y_best | x))

  The first term of a query is a sum over its pairs, not a mean; the second takes the sum over
  tokens, not the length-normalised value. Queries without a valid response do not count. Where
  p_i = p_j the ReLU has gradient 0.

  Attributes:
    sft_coefficient: lambda, the weight of the imitation of the best response.
  """

  name: ClassVar[str] = "rrhf"
  sft_coefficient: NonNegativeFloat = 1.0

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over queries; metrics `rank_loss` and `sft_loss` are the unweighted terms."""
    lengths = jnp.maximum(responses.lengths, 1).astype(jnp.float32)
    normalized = responses.logprobs.astype(jnp.float32) / lengths
    pairs = pairs_from_scores(responses.rewards, responses.valid)
    # pairs[b, i, j]: i is better, so its response pays where the worse j is the likelier one.
    excess = jnp.where(pairs, normalized[:, None, :] - normalized[:, :, None], 0.0)
    rank_loss = jnp.sum(jax.nn.relu(excess))
    sft_loss, count, _ = RejectionSampling()(responses)
    total = rank_loss + self.sft_coefficient * sft_loss
    return Sums(total, count, {"rank_loss": rank_loss, "sft_loss": sft_loss})
