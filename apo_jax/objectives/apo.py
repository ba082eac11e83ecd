"""The min player's loss: the reward model ranks golden responses above the policy's samples."""

import dataclasses
import math
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from apo_jax.objectives.ranges import NonNegativeFloat
from apo_jax.objectives.ranking import ranking_loss
from apo_jax.objectives.sums import Sums, mean


class ScoredRewards(NamedTuple):
  """Rewards as the min player's losses read them.

  Attributes:
    preferences: Float[B, R], rewards of the human preferences D_P.
    preference_scores: Float[B, R], the higher is preferred; below 0 marks padding.
    golden: Float[C, K], rewards of D_APO: the golden responses and the policy's samples; None where
      only preferences are trained on.
    golden_scores: Float[C, K], a higher score for the golden response than for its samples, which
      share one; below 0 marks padding.
    golden_twins: Float[C], samples that were drawn beside these and are the golden response itself,
      token for token: no reward can tell them apart, but they are a part of what the policy
      draws. None where there is none.
    preference_embeddings: Float[B, R, D], what the reward head reads; None unless a term or the
      weighting of terms needs them.
    golden_embeddings: Float[C, K, D], the same of `golden`.
    preference_logprobs: Float[B, R], log pi_LM(y | x) under the reward model's decoder with its
      language-model head, in nats, summed over what the reward model reads of a response, its end
      included; 0 where no term reads it, None unless a term needs them.
    golden_logprobs: Float[C, K], the same of `golden`.
    preference_subsets: Int[B], which subset each preference belongs to; None where none are told
      apart.
  """

  preferences: Float[Array, "B R"]
  preference_scores: Float[Array, "B R"]
  golden: Float[Array, "C K"] | None = None
  golden_scores: Float[Array, "C K"] | None = None
  golden_twins: Float[Array, "C"] | None = None
  preference_embeddings: Float[Array, "B R D"] | None = None
  golden_embeddings: Float[Array, "C K D"] | None = None
  preference_logprobs: Float[Array, "B R"] | None = None
  golden_logprobs: Float[Array, "C K"] | None = None
  preference_subsets: Int[Array, "B"] | None = None


@dataclasses.dataclass(frozen=True)
class APO:
  """The reward objective of Adversarial Preference Optimization (arXiv 2311.08045).

      L_RM = c_apo * L_golden + c_kl * L_preference

  L_preference is the ranking loss over the human preferences, which keeps the reward model near
  them; L_golden is the same over the golden responses against the policy's samples. It is an
  expectation over samples: a sample that is the golden response adds nothing to the sum and one to
  the number that divides it.

  With `reduction="reference"` both are as the paper's code has them: they share one denominator,
  the number of all pairs of the batch; L_golden is divided by S, the samples a query, as it has so
  many pairs more; and a sample that is the golden response counts as a pair of margin 0, which is
  worth log 2 in "ranking" and moves nothing.

  Attributes:
    kind: "ranking", or "difference" to replace the log-sigmoid of the golden term, and of it alone,
      by the raw margin.
    reduction: "mean" divides each term by its own number of pairs, so that neither S nor the
      batch's mixture changes its weight; or "reference".
    golden_coefficient: c_apo.
    preference_coefficient: c_kl.
  """

  kind: Literal["ranking", "difference"] = "ranking"
  reduction: Literal["mean", "reference"] = "mean"
  golden_coefficient: NonNegativeFloat = 0.1
  preference_coefficient: NonNegativeFloat = 1.0

  def __call__(self, rewards: ScoredRewards) -> dict[str, Sums]:
    """Returns the sums of the terms, unweighted: "preference" and, where there is any, "golden".

    Metrics are `preference_margin`, `preference_accuracy`, and in "golden_pairs", which has no loss
    and does not count twins, `golden_margin` and `golden_accuracy`.
    """
    preference = ranking_loss(rewards.preferences, rewards.preference_scores)
    sums = {"preference": preference.named("preference")}
    if rewards.golden is None:
      return sums
    golden = ranking_loss(rewards.golden, rewards.golden_scores, kind=self.kind)
    twins = 0.0 if rewards.golden_twins is None else jnp.sum(rewards.golden_twins)
    tie = math.log(2.0) if (self.reduction, self.kind) == ("reference", "ranking") else 0.0
    sums["golden"] = Sums(golden.total + tie * twins, golden.count + twins, {})
    sums["golden_pairs"] = Sums(jnp.zeros(()), golden.count, golden.metrics).named("golden")
    return sums

  def combine(
    self,
    totals: dict[str, Float[Array, ""]],
    counts: dict[str, Float[Array, ""]],
    *,
    num_samples: int,
  ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Returns the loss and its unweighted terms "preference" and "golden".

    Args:
      totals: of the terms, as `__call__` sums them.
      counts: pairs of the whole batch, of which `totals` may hold a part.
      num_samples: S, the samples drawn a golden query, which "reference" divides by.
    """
    terms = [name for name in ("preference", "golden") if name in totals]
    coefficients = {"preference": self.preference_coefficient, "golden": self.golden_coefficient}
    if self.reduction == "reference":
      counts = dict.fromkeys(terms, sum(counts[name] for name in terms))
      coefficients["golden"] /= num_samples
    means = {name: mean(totals[name], counts[name]) for name in terms}
    loss = coefficients["preference"] * means["preference"]
    if "golden" in means:
      loss += coefficients["golden"] * means["golden"]
    return loss, means
