"""SPIN: the policy learns to tell golden responses from its own samples, without rewards."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from apo_jax.objectives.groups import log_ratios
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class SPIN(PolicyLoss):
  """Self-play fine-tuning (arXiv 2401.01335, equation 4.7), a mean over samples.

      margin = beta * [(log pi - log pi_ref)(y_golden | x) - (log pi - log pi_ref)(y_sample | x)]
      L      = -log sigmoid(margin), or with kind "hinge" ReLU(1 - margin)

  The reference is the policy that sampled. With one sample a query, as in the paper, it is DPO's
  loss with the golden response as the preferred one; with more, each is a pair. Where the policy
  has become the data, no margin can be had and the loss stays at log 2. The paper's code takes
  beta 0.1, and 5 in its last round.

  Attributes:
    beta: lambda, the strength of the pull towards the reference policy.
    kind: "sigmoid" or "hinge".
  """

  name: ClassVar[str] = "spin"
  compares: ClassVar[bool] = False
  reference: ClassVar[Literal["any", "round_start"]] = "round_start"
  reads_rewards: ClassVar[bool] = False
  reads_golden: ClassVar[bool] = True
  order_only: ClassVar[bool] = True
  beta: PositiveFloat = 0.1
  kind: Literal["sigmoid", "hinge"] = "sigmoid"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over samples whose query has a golden response.

    Metrics are `margin`; `accuracy`, samples of margin > 0, those of 0 as a half; and
    `golden_log_ratio` and `sample_log_ratio`, log pi - log pi_ref of the two sides, which may both
    fall while the margin grows.
    """
    ratios = log_ratios(responses)
    golden = responses.golden & responses.valid
    # One response of a query is golden: the sum picks it.
    of_golden = jnp.sum(jnp.where(golden, ratios, 0.0), axis=1, keepdims=True)
    paired = responses.valid & ~responses.golden & jnp.any(golden, axis=1, keepdims=True)
    # Masked before the loss as well as after it, so that padding cannot reach the gradient.
    margins = jnp.where(paired, self.beta * (of_golden - ratios), 0.0)
    if self.kind == "sigmoid":
      losses = -jax.nn.log_sigmoid(margins)
    else:
      losses = jax.nn.relu(1.0 - margins)
    return Sums(
      total=jnp.sum(jnp.where(paired, losses, 0.0)),
      count=jnp.sum(paired, dtype=jnp.float32),
      metrics={
        "margin": jnp.sum(margins),
        "accuracy": jnp.sum(jnp.where(paired, (1.0 + jnp.sign(margins)) / 2, 0.0)),
        "golden_log_ratio": jnp.sum(jnp.where(paired, of_golden, 0.0)),
        "sample_log_ratio": jnp.sum(jnp.where(paired, ratios, 0.0)),
      },
    )
