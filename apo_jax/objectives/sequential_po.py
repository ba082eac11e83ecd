"""Sequential preference optimization: pairs are held against what the round before learnt."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import log_ratios
from apo_jax.objectives.pairs import read_by_pairs
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import NonNegativeFloat, PositiveFloat
from apo_jax.objectives.selection import pairs_from_scores
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class SequentialPO(PolicyLoss):
  """Sequential Preference Optimization (SPO, arXiv 2405.12739), a mean over pairs.

      margin = beta * [log pi - log pi_ref](w - l)
               - earlier_weight * earlier_beta * [log pi_ref - log pi_earlier](w - l)
      L      = -log sigmoid(margin)

  (w, l) are a query's responses of the highest and the lowest reward, and f(w - l) is f(y_w) -
  f(y_l). pi_ref is the policy at the start of the round and pi_earlier the one that a round before
  started from, so that the second term is the implicit reward of what was learnt last: a pair that
  agrees with it has a larger gradient and one that conflicts a smaller one. In the first round,
  with nothing before it, the loss is DPO's.

  The paper asks for the most of the new reward within a KL ball while the old one is kept; this
  loss is derived from the closed form of that problem, as no code of the authors is published.

  Attributes:
    beta: the strength of the pull towards the policy at the start of the round.
    earlier_weight: how much of what was learnt before is to be kept; 0 is DPO.
    earlier_beta: the strength of the pull that the round before was trained with.
  """

  name: ClassVar[str] = "sequential_po"
  reference: ClassVar[Literal["any", "round_start"]] = "round_start"
  reads_earlier_policy: ClassVar[bool] = True
  order_only: ClassVar[bool] = True
  beta: PositiveFloat = 0.1
  earlier_weight: NonNegativeFloat = 0.5
  earlier_beta: PositiveFloat = 0.1

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over pairs.

    Metrics are `margin`, `earlier_margin`, the implicit reward of the round before, and `accuracy`,
    pairs of which the new policy's implicit reward orders the two rightly.
    """
    preferred = pairs_from_scores(responses.rewards, responses.valid, "best_worst")
    reference = responses.reference_logprobs.astype(jnp.float32)
    since_earlier = self.earlier_beta * (reference - responses.earlier_logprobs)

    def of_pairs(values: Float[Array, "B R"]) -> Float[Array, "B R R"]:
      return jnp.where(preferred, values[:, :, None] - values[:, None, :], 0.0)

    learnt, before = of_pairs(self.beta * log_ratios(responses)), of_pairs(since_earlier)
    margins = learnt - self.earlier_weight * before
    return Sums(
      total=jnp.sum(jnp.where(preferred, -jax.nn.log_sigmoid(margins), 0.0)),
      count=jnp.sum(preferred, dtype=jnp.float32),
      metrics={
        "margin": jnp.sum(learnt),
        "earlier_margin": jnp.sum(before),
        "accuracy": jnp.sum(jnp.where(preferred, (1.0 + jnp.sign(learnt)) / 2, 0.0)),
      },
    )

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns the best and the worst response of every query."""
    return read_by_pairs(rewards, valid, "best_worst")
