"""A price for every token."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float

from apo_jax.objectives.ranges import NonNegativeFloat
from apo_jax.objectives.shaping import SampledRewards, Shaping


@dataclasses.dataclass(frozen=True)
class LengthPenalty(Shaping):
  """r'(x, y) = r(x, y) - coefficient * |y|, in tokens without the end.

  Attributes:
    coefficient: in units of the reward a token.
  """

  name: ClassVar[str] = "length_penalty"
  coefficient: NonNegativeFloat = 0.001

  def __call__(self, samples: SampledRewards) -> Float[Array, "Q S"]:
    """Returns the rewards, less the price of their lengths."""
    return samples.rewards - self.coefficient * samples.lengths
