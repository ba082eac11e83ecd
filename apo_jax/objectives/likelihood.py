"""Maximum likelihood of chosen responses: the supervised start, and a term of other losses."""

import dataclasses
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.sums import Sums

# How a response's tokens make up its imitation.
OverTokens = Literal["mean", "sum"]


def imitated(responses: ScoredResponses) -> tuple[Float[Array, "B R"], Float[Array, "B R"]]:
  """Returns -log pi(y | x) of every response in nats, and its tokens, the end with them.

  Of a response that a stop string ended it is the eos that stands for it; see `ScoredResponses`.
  """
  logprobs, lengths = responses.imitated_logprobs, responses.imitated_lengths
  logprobs = responses.logprobs if logprobs is None else logprobs
  lengths = responses.lengths if lengths is None else lengths
  return -logprobs.astype(jnp.float32), lengths.astype(jnp.float32)


def imitation(
  responses: ScoredResponses, chosen: Bool[Array, "B R"], over_tokens: OverTokens
) -> Sums:
  """Returns the sums of -log pi(y | x) over the chosen responses: over their tokens, or themselves.

  Args:
    responses: all of a batch.
    chosen: those that are imitated.
    over_tokens: "mean" counts the tokens of all chosen responses, as language models are trained;
      "sum" counts the responses, so that long ones weigh more.
  """
  costs, lengths = imitated(responses)
  items = lengths if over_tokens == "mean" else jnp.ones_like(lengths)
  return Sums(
    total=jnp.sum(jnp.where(chosen, costs, 0.0)),
    count=jnp.sum(jnp.where(chosen, items, 0.0)),
    metrics={},
  )


@dataclasses.dataclass(frozen=True)
class MaximumLikelihood(PolicyLoss):
  """The supervised start: every response is imitated.

      L = mean over tokens, or over responses, of -log pi(y | x)

  No choice of `policy.loss`: it reads demonstrations, which have no rewards.

  Attributes:
    over_tokens: "mean" divides by the tokens, "sum" by the responses.
  """

  compares: ClassVar[bool] = False
  over_tokens: OverTokens = "mean"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over tokens or responses, in nats."""
    return imitation(responses, responses.valid, self.over_tokens)
