"""The hinge loss on DPO's margins, as SLiC-HF and RSO have it."""

import dataclasses
from typing import ClassVar

import jax
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import log_ratios
from apo_jax.objectives.pairs import Pairs, pair_sums, read_by_pairs
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class Hinge(PolicyLoss):
  """The hinge loss on normalised log-likelihoods, a mean over pairs.

      h(y)   = beta * (log pi(y | x) - log pi_ref(y | x))
      margin = h(y_w) - h(y_l)
      L      = max(0, 1 - margin)

  RSO (arXiv 2309.06657) proposes it, after SLiC (arXiv 2305.10425). 1 / beta is the margin in nats
  from where on a pair is left alone; the default is what TRL's documentation gives for RSO. Checked
  against TRL's code.

  Attributes:
    beta: one over the margin that is wanted, in nats.
    pairs: the pairs of a query.
  """

  name: ClassVar[str] = "hinge"
  order_only: ClassVar[bool] = True
  beta: PositiveFloat = 0.05
  pairs: Pairs = "best_worst"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over pairs; metrics are `margin` and `accuracy`."""
    implicit = self.beta * log_ratios(responses)
    return pair_sums(implicit, responses, self.pairs, lambda margin: jax.nn.relu(1 - margin))

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns the best and the worst response of every query, or with other pairs all."""
    return read_by_pairs(rewards, valid, self.pairs)
