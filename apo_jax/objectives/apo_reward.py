"""The min player's loss: the reward model ranks golden responses above the policy's samples."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.normalizer import Normalizer
from apo_jax.objectives.ranking import count_pairs, ranking_loss


def apo_reward_loss(
  preference_rewards: Float[Array, "B R"],
  preference_scores: Float[Array, "B R"],
  apo_rewards: Float[Array, "C K"],
  apo_scores: Float[Array, "C K"],
  *,
  num_samples: int,
  apo_coefficient: float,
  preference_coefficient: float,
  kind: str,
  reduction: str,
  normalizers: tuple[Normalizer, Normalizer] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
  """Returns the reward step's loss and its two unweighted terms.

      L_RM = c_apo * L_apo / S + c_kl * L_pref

  the reward objective of Adversarial Preference Optimization (arXiv 2311.08045). L_pref is the
  ranking loss over the human preferences, which keeps the reward model near them; L_apo is the
  same over the golden responses against the policy's samples. Either side may have no rows.

  Args:
    preference_rewards: float [B, R], rewards of the preference data.
    preference_scores: float [B, R], its scores; below 0 marks padding.
    apo_rewards: float [C, K], rewards of the golden responses and the samples.
    apo_scores: float [C, K], a higher score for the golden response than for its samples, which
      share one; below 0 marks padding.
    num_samples: S, the samples drawn a golden query.
    apo_coefficient: c_apo.
    preference_coefficient: c_kl.
    kind: "ranking", or "difference" to replace the log-sigmoid of the APO term, and of it alone,
      by the raw margin.
    reduction: "mean" divides each term by its own number of pairs; "reference" divides both by
      the number of all pairs of the batch together, as the paper's code does.
    normalizers: the denominators of (L_pref, L_apo), in place of those of this batch; `reduction`
      then has no further effect.

  Returns:
    The loss, and {"preference_loss": L_pref, "apo_loss": L_apo}, each over its denominator.

  Raises:
    ValueError: if `kind` or `reduction` is none of these.
  """
  if normalizers is None:
    normalizers = apo_reward_normalizers(preference_scores, apo_scores, reduction)
  preference_normalizer, apo_normalizer = normalizers
  preference_loss = ranking_loss(
    preference_rewards, preference_scores, normalizer=preference_normalizer
  )
  apo_loss = ranking_loss(apo_rewards, apo_scores, kind=kind, normalizer=apo_normalizer)
  loss = apo_coefficient * apo_loss / num_samples + preference_coefficient * preference_loss
  return loss, {"preference_loss": preference_loss, "apo_loss": apo_loss}


def apo_reward_normalizers(
  preference_scores: Float[Array, "B R"], apo_scores: Float[Array, "C K"], reduction: str
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Returns the denominators of (L_pref, L_apo) in `apo_reward_loss`, each at least 1.

  Args:
    preference_scores: float [B, R], scores of the preference data; below 0 marks padding.
    apo_scores: float [C, K], scores of the golden responses and samples, likewise.
    reduction: "mean" for each term's own number of pairs, "reference" for the number of all
      pairs for both.

  Raises:
    ValueError: if `reduction` is none of these.
  """
  preference_pairs = count_pairs(preference_scores)
  apo_pairs = count_pairs(apo_scores)
  if reduction == "mean":
    return jnp.maximum(preference_pairs, 1.0), jnp.maximum(apo_pairs, 1.0)
  if reduction == "reference":
    shared = jnp.maximum(preference_pairs + apo_pairs, 1.0)
    return shared, shared
  raise ValueError(f'reduction is {reduction!r}; it must be "mean" or "reference".')
