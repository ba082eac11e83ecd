"""What a selection is: which of a query's samples the policy may learn from."""

import abc
import dataclasses

from jaxtyping import Array, Bool, Float, UInt32

from apo_jax.objectives.choice import Choice


@dataclasses.dataclass(frozen=True)
class Selection(Choice, abc.ABC):
  """A function from rewards to the samples that stay; its fields are its hyper-parameters."""

  @abc.abstractmethod
  def __call__(
    self,
    rewards: Float[Array, "Q S"],
    valid: Bool[Array, "Q S"],
    keys: UInt32[Array, "Q 2"],
  ) -> Bool[Array, "Q S"]:
    """Returns which samples stay, of those that are valid.

    Args:
      rewards: float [Q, S], as they are shaped; finite where valid.
      valid: bool [Q, S], those that are left.
      keys: the data of a threefry key for each query.
    """

  def most(self, num_samples: int) -> int:
    """Returns how many of so many samples to a query stay at most."""
    return num_samples
