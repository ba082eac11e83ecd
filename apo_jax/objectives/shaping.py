"""What a shaping is: a change of the samples' rewards before the policy learns from them."""

import abc
import dataclasses
from typing import ClassVar, NamedTuple

from jaxtyping import Array, Bool, Float, Int

from apo_jax.objectives.choice import Choice


class SampledRewards(NamedTuple):
  """All samples of a round as shapings read them: S to each of Q queries.

  Attributes:
    rewards: Float[Q, S], by the round's reward model, or as the shaping before left them.
    lengths: Int[Q, S], tokens in each response, without eos.
    finished: Bool[Q, S], ended by itself, not by the limit.
    logprobs: Float[Q, S], log pi(y | x) under the policy that sampled, in nats.
    baseline_rewards: Float[Q, K], of the supervised start's answers to the same queries; None where
      no shaping reads them.
    whitened: Float[Q, S, D], L^-1 e, e what the reward model's head reads and L L^T the second
      moment of it over the reward model's training data, with a ridge; None where no shaping reads
      them.
    golden_whitened: Float[G, D], the same of golden responses, to other queries.
  """

  rewards: Float[Array, "Q S"]
  lengths: Int[Array, "Q S"]
  finished: Bool[Array, "Q S"]
  logprobs: Float[Array, "Q S"]
  baseline_rewards: Float[Array, "Q K"] | None = None
  whitened: Float[Array, "Q S D"] | None = None
  golden_whitened: Float[Array, "G D"] | None = None


@dataclasses.dataclass(frozen=True)
class Shaping(Choice, abc.ABC):
  """A function from scored samples to shaped rewards; its fields are its hyper-parameters.

  Attributes:
    shifts_queries: it adds one number to all rewards of a query, which a loss sees that holds
      rewards of different queries against each other.
    keeps_order: within a query it rises with the reward, so that losses which read the order alone
      do not see it.
    reads_baselines: it reads `SampledRewards.baseline_rewards`.
    reads_embeddings: it reads `SampledRewards.whitened`.
  """

  shifts_queries: ClassVar[bool] = False
  keeps_order: ClassVar[bool] = False
  reads_baselines: ClassVar[bool] = False
  reads_embeddings: ClassVar[bool] = False

  @abc.abstractmethod
  def __call__(self, samples: SampledRewards) -> Float[Array, "Q S"]:
    """Returns the rewards that the policy step reads in place of `samples.rewards`."""
