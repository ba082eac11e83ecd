"""A price for responses that do not end."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float

from apo_jax.objectives.ranges import NonNegativeFloat
from apo_jax.objectives.shaping import SampledRewards, Shaping


@dataclasses.dataclass(frozen=True)
class MissingEnd(Shaping):
  """r'(x, y) = r(x, y) - penalty where y ran into the limit, else r(x, y).

  Attributes:
    penalty: in units of the reward.
  """

  name: ClassVar[str] = "missing_end"
  penalty: NonNegativeFloat = 1.0

  def __call__(self, samples: SampledRewards) -> Float[Array, "Q S"]:
    """Returns the rewards, those of unfinished samples less the penalty."""
    return samples.rewards - self.penalty * ~samples.finished
