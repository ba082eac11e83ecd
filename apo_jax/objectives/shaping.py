"""What a shaping is: a change of the samples' rewards before the policy learns from them."""

import abc
import dataclasses
from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

from apo_jax.objectives.choice import Choice


class SampledRewards(NamedTuple):
  """All samples of a round as shapings read them: S to each of Q queries.

  Attributes:
    rewards: Float[Q, S], by the round's reward model, or as the shaping before left them.
    lengths: Int[Q, S], tokens in each response, without eos.
    finished: Bool[Q, S], ended by itself, not by the limit.
    logprobs: Float[Q, S], log pi(y | x) under the policy that sampled, in nats.
  """

  rewards: Float[Array, "Q S"]
  lengths: Int[Array, "Q S"]
  finished: Bool[Array, "Q S"]
  logprobs: Float[Array, "Q S"]


@dataclasses.dataclass(frozen=True)
class Shaping(Choice, abc.ABC):
  """A function from scored samples to shaped rewards; its fields are its hyper-parameters."""

  @abc.abstractmethod
  def __call__(self, samples: SampledRewards) -> Float[Array, "Q S"]:
    """Returns the rewards that the policy step reads in place of `samples.rewards`."""
