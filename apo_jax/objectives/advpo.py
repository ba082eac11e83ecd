"""AdvPO: rewards by the worst reward head that the reward model's data leaves possible."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.ranges import NonNegativeFloat
from apo_jax.objectives.shaping import SampledRewards, Shaping


@dataclasses.dataclass(frozen=True)
class AdvPO(Shaping):
  """Adversarial policy optimization's rewards (arXiv 2403.05171).

      phi'     = argmin over ||phi' - phi||_M <= bound of  mean e^T phi' over samples
                                                         - mean e^T phi' over golden responses
      r'(x, y) = e^T phi' = r(x, y) - bound * e^T M^-1 g / sqrt(g^T M^-1 g)

  with g the mean of e over samples less that over golden responses, e what the head phi reads, and
  M the second moment of what the reward model was trained on, with a ridge
  (`SampledRewards.whitened`). The reference responses are what keeps directions that good answers
  share. Derived from the paper's problem, as no code is published; its bound was not found: here it
  is chosen such that the shift's standard deviation over all samples is `strength` of the rewards'.

  Attributes:
    strength: 0 changes nothing; 0.1 to 0.5 changes some orders and leaves most.
  """

  name: ClassVar[str] = "advpo"
  reads_embeddings: ClassVar[bool] = True
  strength: NonNegativeFloat = 0.3

  def __call__(self, samples: SampledRewards) -> Float[Array, "Q S"]:
    """Returns the rewards under the head phi'."""
    unit = worst_direction(samples.whitened, samples.golden_whitened)
    spread = jnp.std(unit)
    bound = self.strength * jnp.std(samples.rewards) / jnp.where(spread > 0, spread, 1.0)
    return samples.rewards - bound * unit


def worst_direction(
  whitened: Float[Array, "Q S D"], golden: Float[Array, "G D"]
) -> Float[Array, "Q S"]:
  """Returns e^T M^-1 g / sqrt(g^T M^-1 g) of each sample; 0 where g is.

  Args:
    whitened: float32 [Q, S, D], L^-1 e of samples, with M = L L^T.
    golden: float32 [G, D], the same of golden responses.
  """
  gap = jnp.mean(whitened, axis=(0, 1)) - jnp.mean(golden, axis=0)
  size = jnp.linalg.norm(gap)
  return whitened @ (gap / jnp.where(size > 0, size, 1.0))
