"""Preference as reward: rewards bounded and centred by those of a reference answer."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.shaping import SampledRewards, Shaping


@dataclasses.dataclass(frozen=True)
class PreferenceAsReward(Shaping):
  """PAR (arXiv 2502.18770).

      r'(x, y) = mean over j of sigmoid(r(x, y) - r(x, y_j))

  y_j are answers of the supervised start (`sampling.baselines`; one is enough by the paper), so
  that r' is how often y is preferred to them. Within a query it rises with r: losses that read the
  order alone do not see it and are refused. That rewards are bounded and centred is the abstract's,
  the formula from memory.
  """

  name: ClassVar[str] = "par"
  keeps_order: ClassVar[bool] = True
  reads_baselines: ClassVar[bool] = True

  def __call__(self, samples: SampledRewards) -> Float[Array, "Q S"]:
    """Returns numbers within [0, 1]."""
    leads = samples.rewards[:, :, None] - samples.baseline_rewards[:, None, :]
    return jnp.mean(jax.nn.sigmoid(leads), axis=2)
