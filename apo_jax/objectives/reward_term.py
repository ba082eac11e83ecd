"""What a further term of the min player's loss is, beside the two of `APO`."""

import abc
import dataclasses

from apo_jax.objectives.apo import ScoredRewards
from apo_jax.objectives.choice import Choice
from apo_jax.objectives.ranges import NonNegativeFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class RewardTerm(Choice, abc.ABC):
  """A term of the reward step's loss; its fields are its hyper-parameters.

  Attributes:
    coefficient: the weight of the term's mean in the loss.
  """

  coefficient: NonNegativeFloat = 1.0

  @abc.abstractmethod
  def __call__(self, rewards: ScoredRewards) -> Sums:
    """Returns the term's sums, unweighted; it ignores padding, in value and gradient."""
