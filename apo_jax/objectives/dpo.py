"""Direct Preference Optimization on pairs formed from scored responses."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.normalizer import Normalizer, resolve_normalizer
from apo_jax.objectives.pairs import pairs_from_scores


def dpo_loss(
  policy_logprobs: Float[Array, "B R"],
  reference_logprobs: Float[Array, "B R"],
  rewards: Float[Array, "B R"],
  valid: Bool[Array, "B R"],
  *,
  beta: float,
  pairs: str = "best_worst",
  normalizer: Normalizer | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
  """Returns the DPO loss, a mean over pairs, and its metrics (arXiv 2305.18290, equation 7).

      h(y)   = beta * (log pi(y | x) - log pi_ref(y | x))     the implicit reward
      margin = h(y_w) - h(y_l)
      L      = -log sigmoid(margin)

  The pairs (w, l) are those of `pairs_from_scores(rewards, valid, pairs)`. A batch without pairs
  gives 0 with zero gradients, and metrics of 0.

  Args:
    policy_logprobs: float [B, R], log pi(y | x), summed over the response's tokens, in nats.
    reference_logprobs: float [B, R], the same under the reference policy.
    rewards: float [B, R], finite; they form the pairs and receive no gradient.
    valid: bool [B, R], False marks padding and empty responses.
    beta: the strength of the pull towards the reference policy.
    pairs: the pairs of a query, "best_worst", "best_rest" or "all".
    normalizer: positive denominator of the sums; None for the number of pairs in this batch,
      at least 1.

  Returns:
    The loss, and over the same denominator {"accuracy": the fraction of pairs with margin > 0,
    "margin": the mean margin}.

  Raises:
    ValueError: if `pairs` is none of these.
  """
  preferred = pairs_from_scores(rewards, valid, pairs)
  normalizer = resolve_normalizer(jnp.sum(preferred, dtype=jnp.float32), normalizer)
  implicit = beta * (policy_logprobs.astype(jnp.float32) - reference_logprobs.astype(jnp.float32))
  # Masked before the loss as well as after it, so that padding cannot reach the gradient.
  margins = jnp.where(preferred, implicit[:, :, None] - implicit[:, None, :], 0.0)
  loss = jnp.sum(jnp.where(preferred, -jax.nn.log_sigmoid(margins), 0.0)) / normalizer
  metrics = {
    "accuracy": jnp.sum(margins > 0, dtype=jnp.float32) / normalizer,
    "margin": jnp.sum(margins) / normalizer,
  }
  return loss, metrics
