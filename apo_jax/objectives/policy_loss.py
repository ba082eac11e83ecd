"""What every policy loss is: sums over scored responses, from log-probabilities and rewards."""

import abc
import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from apo_jax.objectives.choice import Choice
from apo_jax.objectives.sums import Sums


class ScoredResponses(NamedTuple):
  """R responses to each of B queries, as policy losses read them.

  Attributes:
    logprobs: Float[B, R], log pi(y | x), summed over the response's drawn tokens, in nats.
    reference_logprobs: Float[B, R], the same under the reference policy; None where there is none,
      as of demonstrations.
    lengths: Int[B, R], those tokens, a drawn eos included; 0 is allowed and divides by 1.
    rewards: Float[B, R], finite where valid; they order and select, and receive no gradient.
    valid: Bool[B, R], False marks padding and empty responses.
    imitated_logprobs: Float[B, R], `logprobs` and, where a stop string ended the response, the
      log-probability of the eos that stands for it: imitation learns to end there, while ratios
      and rankings do not see what was never drawn. None where the two are the same.
    imitated_lengths: Int[B, R], the tokens of `imitated_logprobs`; None where those are.
    golden: Bool[B, R], True at a query's golden response; None where only samples are read.
    earlier_logprobs: Float[B, R], log pi(y | x) under the policy that the reference started from, a
      round before; None where no loss reads it.
    query_embeddings: Float[B, E], what the policy makes of a query, without gradient; None where no
      loss reads it.
  """

  logprobs: Float[Array, "B R"]
  reference_logprobs: Float[Array, "B R"] | None
  lengths: Int[Array, "B R"]
  rewards: Float[Array, "B R"]
  valid: Bool[Array, "B R"]
  imitated_logprobs: Float[Array, "B R"] | None = None
  imitated_lengths: Int[Array, "B R"] | None = None
  golden: Bool[Array, "B R"] | None = None
  earlier_logprobs: Float[Array, "B R"] | None = None
  query_embeddings: Float[Array, "B E"] | None = None


@dataclasses.dataclass(frozen=True)
class PolicyLoss(Choice, abc.ABC):
  """A loss of the max player; its fields are its hyper-parameters.

  What a loss needs stands on its class, or where it hangs on a hyper-parameter is a property:
  config/checks.py refuses a config that does not give it.

  Attributes:
    compares: it compares samples of one query, so that it needs two that differ.
    reference: "round_start" where its reference must be the policy that drew the samples, with
      which the round starts; "any" where it is anyone's, or none's.
    whole_batch: it has a statistic over the batch's queries beside its sums, which the batch's
      parts do not have: no micro-batches.
    reads_rewards: without, no round has a reward step.
    reads_golden: it reads golden responses beside samples, so that the policy answers their queries
      in place of its own.
    reads_earlier_policy: it reads `ScoredResponses.earlier_logprobs`.
    reads_query_embeddings: it reads `ScoredResponses.query_embeddings`.
    order_only: of a query's rewards it reads the order alone, so that no rising function of them
      changes it.
    across_queries: it sets rewards of different queries against each other, or against a constant:
      only then does a number that is added to all rewards of one query change it.
  """

  compares: ClassVar[bool] = True
  reference: ClassVar[Literal["any", "round_start"]] = "any"
  whole_batch: ClassVar[bool] = False
  reads_rewards: ClassVar[bool] = True
  reads_golden: ClassVar[bool] = False
  reads_earlier_policy: ClassVar[bool] = False
  reads_query_embeddings: ClassVar[bool] = False
  order_only: ClassVar[bool] = False
  across_queries: ClassVar[bool] = False

  @abc.abstractmethod
  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns the loss's sums; it ignores what is not valid, in value and gradient."""

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns the responses that the loss depends on; by default all that are valid."""
    del rewards
    return valid

  def most_read(self, num_samples: int) -> int:
    """Returns how many of so many samples to a query it reads at most: where no two are equal."""
    rewards = jnp.arange(num_samples, dtype=jnp.float32)[None]
    return int(jnp.sum(self.reads(rewards, jnp.ones(rewards.shape, bool))))
