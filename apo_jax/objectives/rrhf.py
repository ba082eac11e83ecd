"""RRHF: the policy's log-probabilities are to rank its responses as their rewards do."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from apo_jax.objectives.normalizer import Normalizer, resolve_normalizer
from apo_jax.objectives.pairs import pairs_from_scores
from apo_jax.objectives.rjs import count_queries, rjs_loss


def rrhf_loss(
  logprobs: Float[Array, "B R"],
  lengths: Int[Array, "B R"],
  rewards: Float[Array, "B R"],
  valid: Bool[Array, "B R"],
  *,
  sft_coefficient: float,
  normalizer: Normalizer | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
  """Returns the RRHF loss, a mean over queries, and its two terms (arXiv 2304.05302).

      p_i = log pi(y_i | x) / |y_i|
      L   = sum over r_i < r_j of ReLU(p_i - p_j)  +  sft_coefficient * (-log pi(y_best | x))

  The first term of a query is a sum over its pairs, not a mean; the second takes the sum over
  tokens, not the length-normalised value. Queries without a valid response do not count; a batch
  without any other gives 0 with zero gradients. Where p_i = p_j the ReLU has gradient 0.

  Args:
    logprobs: float [B, R], log pi(y | x), summed over the response's tokens, in nats.
    lengths: int [B, R], tokens in each response; 0 is allowed and then divides by 1.
    rewards: float [B, R], finite; they order and select, and receive no gradient.
    valid: bool [B, R], False marks padding and empty responses.
    sft_coefficient: lambda, the weight of the imitation of the best response.
    normalizer: positive denominator of the sums; None for the number of queries of this batch
      with a valid response, `count_queries(valid)`, at least 1.

  Returns:
    The loss, and {"rank_loss", "sft_loss"}: its unweighted terms over the same denominator.
  """
  logprobs = logprobs.astype(jnp.float32)
  normalizer = resolve_normalizer(count_queries(valid), normalizer)
  normalized = logprobs / jnp.maximum(lengths, 1).astype(jnp.float32)
  pairs = pairs_from_scores(rewards, valid)
  # pairs[b, i, j]: i is better, so its response pays where the worse j is the likelier one.
  excess = jnp.where(pairs, normalized[:, None, :] - normalized[:, :, None], 0.0)
  rank_loss = jnp.sum(jax.nn.relu(excess)) / normalizer
  sft_loss = rjs_loss(logprobs, rewards, valid, normalizer=normalizer)
  loss = rank_loss + sft_coefficient * sft_loss
  return loss, {"rank_loss": rank_loss, "sft_loss": sft_loss}
