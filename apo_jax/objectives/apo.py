"""The min player's loss: the reward model ranks golden responses above the policy's samples."""

import dataclasses
from typing import Literal, NamedTuple

from jaxtyping import Array, Float

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
  """

  preferences: Float[Array, "B R"]
  preference_scores: Float[Array, "B R"]
  golden: Float[Array, "C K"] | None = None
  golden_scores: Float[Array, "C K"] | None = None


@dataclasses.dataclass(frozen=True)
class APO:
  """The reward objective of Adversarial Preference Optimization (arXiv 2311.08045).

      L_RM = c_apo * L_golden / S + c_kl * L_preference

  L_preference is the ranking loss over the human preferences, which keeps the reward model near
  them; L_golden is the same over the golden responses against the policy's S samples a query.

  Attributes:
    kind: "ranking", or "difference" to replace the log-sigmoid of the golden term, and of it alone,
      by the raw margin.
    reduction: "mean" divides each term by its own number of pairs; "reference" divides both by
      the number of all pairs of the batch together, as the paper's code does.
    golden_coefficient: c_apo.
    preference_coefficient: c_kl.
  """

  kind: Literal["ranking", "difference"] = "ranking"
  reduction: Literal["mean", "reference"] = "mean"
  golden_coefficient: NonNegativeFloat = 0.1
  preference_coefficient: NonNegativeFloat = 1.0

  def __call__(self, rewards: ScoredRewards) -> dict[str, Sums]:
    """Returns the sums of the terms, unweighted: "preference" and, where there is any, "golden"."""
    sums = {"preference": ranking_loss(rewards.preferences, rewards.preference_scores)}
    if rewards.golden is not None:
      sums["golden"] = ranking_loss(rewards.golden, rewards.golden_scores, kind=self.kind)
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
      num_samples: S, the samples drawn a golden query.
    """
    if self.reduction == "reference":
      counts = dict.fromkeys(totals, sum(counts[name] for name in totals))
    means = {name: mean(totals[name], counts[name]) for name in totals}
    loss = self.preference_coefficient * means["preference"]
    if "golden" in means:
      loss += self.golden_coefficient * means["golden"] / num_samples
    return loss, means
