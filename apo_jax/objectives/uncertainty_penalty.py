"""A price for samples that lie far from what the reward model was trained on."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.ranges import NonNegativeFloat
from apo_jax.objectives.shaping import SampledRewards, Shaping


@dataclasses.dataclass(frozen=True)
class UncertaintyPenalty(Shaping):
  """r'(x, y) = r(x, y) - coefficient * u(x, y), u the uncertainty of the reward model's last layer.

      u(x, y) = sqrt(e^T M^-1 e),   M = sum of e e^T over what it was trained on + a ridge

  e is what the head reads of a response (`SampledRewards.whitened`, whose length is u). It is the
  lower confidence bound that AdvPO (arXiv 2403.05171) is compared with there, as too careful.

  Attributes:
    coefficient: in units of the reward; u of what it was trained on is at most 1.
  """

  name: ClassVar[str] = "uncertainty_penalty"
  reads_embeddings: ClassVar[bool] = True
  coefficient: NonNegativeFloat = 1.0

  def __call__(self, samples: SampledRewards) -> Float[Array, "Q S"]:
    """Returns the rewards, less the price of their uncertainty."""
    return samples.rewards - self.coefficient * jnp.linalg.norm(samples.whitened, axis=2)
