"""RRHF: the policy's log-probabilities are to rank its responses as their rewards do."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from apo_jax.objectives.likelihood import OverTokens, imitated
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import NonNegativeFloat
from apo_jax.objectives.selection import best_response, only, pairs_from_scores
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class RRHF(PolicyLoss):
  """RRHF (arXiv 2304.05302), a mean over queries.

      p_i = log pi(y_i | x) / |y_i|
      L   = ranking_coefficient * sum over r_i < r_j of ReLU(p_i - p_j)
            + sft_coefficient * (-log pi(y_best | x), over its tokens)

  The first term of a query is a sum over its pairs, not a mean. Queries without a valid response do
  not count. Where p_i = p_j the ReLU has gradient 0.

  The paper sums the second term over tokens and has no weight before the first, which is then a
  hundredth of the gradient at usual lengths; its authors' code takes the mean over tokens and a
  weight of 100, as the defaults here do.

  Attributes:
    ranking_coefficient: the weight of the ranking.
    sft_coefficient: lambda, the weight of the imitation of the best response.
    over_tokens: whether that is the "mean" or the "sum" over the best response's tokens.
  """

  name: ClassVar[str] = "rrhf"
  order_only: ClassVar[bool] = True
  ranking_coefficient: NonNegativeFloat = 100.0
  sft_coefficient: NonNegativeFloat = 1.0
  over_tokens: OverTokens = "mean"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over queries; metrics `rank_loss` and `sft_loss` are the unweighted terms."""
    valid = responses.valid
    lengths = jnp.maximum(responses.lengths, 1).astype(jnp.float32)
    normalized = responses.logprobs.astype(jnp.float32) / lengths
    pairs = pairs_from_scores(responses.rewards, valid)
    # pairs[b, i, j]: i is better, so its response pays where the worse j is the likelier one.
    excess = jnp.where(pairs, normalized[:, None, :] - normalized[:, :, None], 0.0)
    rank_loss = jnp.sum(jax.nn.relu(excess))
    costs, tokens = imitated(responses)
    if self.over_tokens == "mean":
      costs = costs / jnp.maximum(tokens, 1.0)
    sft_loss = jnp.sum(jnp.where(only(best_response(responses.rewards, valid), valid), costs, 0.0))
    return Sums(
      total=self.ranking_coefficient * rank_loss + self.sft_coefficient * sft_loss,
      count=jnp.sum(jnp.any(valid, axis=1), dtype=jnp.float32),
      metrics={"rank_loss": rank_loss, "sft_loss": sft_loss},
    )
