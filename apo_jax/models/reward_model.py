"""The reward model: a decoder, a pooling rule and a linear head.

The decoder keeps a language-model head where a term of the loss reads log-probabilities.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from apo_jax.config.schema import LoraConfig
from apo_jax.models.architecture import Architecture
from apo_jax.models.decoder import Decoder
from apo_jax.models.logprobs import logprobs_of_hidden
from apo_jax.rows.reading import seen_slots, sum_by_response
from apo_jax.rows.rows import Rows

# The name of the head's parameter. A policy's language-model head is called otherwise.
REWARD_HEAD = "reward_head"


class Judged(NamedTuple):
  """What a reward model says of R responses to each of B queries, float32.

  Attributes:
    rewards: Float[B, R].
    embeddings: Float[B, R, D], what the head reads: rewards are its product with the head's D
      weights. None where nobody asks.
    logprobs: Float[B, R], log pi_LM(y | x) under the decoder with its language-model head, in nats,
      summed over the tokens that are asked for. None where nobody asks.
  """

  rewards: Float[Array, "B R"]
  embeddings: Float[Array, "B R D"] | None = None
  logprobs: Float[Array, "B R"] | None = None


def pool(
  hidden: Float[Array, "B T D"],
  present: Bool[Array, "B R T"],
  ends: Bool[Array, "B T"],
  pooling: str,
) -> Float[Array, "B R D"]:
  """One float32 vector a sequence, as the reference code of APO defines it.

  A row of hidden states may hold several sequences, and `present` marks the slots of each, in
  their order, `ends` those that hold a sequence's eos. `last` reads the last token that is no eos,
  `eos` the last, which is eos where the response ended; `average` and `max` read all that are
  present.
  """
  hidden = hidden.astype(jnp.float32)
  if pooling in ("average", "max"):
    pool_one = _average if pooling == "average" else _maximum
    # One by one, so that no array has as many features for each response.
    return jnp.stack([pool_one(hidden, present[:, r]) for r in range(present.shape[1])], axis=1)
  slots = jnp.arange(present.shape[2])
  if pooling == "last":
    present = present & ~ends[:, None]
  # A sequence of padding alone has no token to read; slot 0 keeps it finite.
  index = jnp.max(jnp.where(present, slots, 0), axis=2)
  return jnp.take_along_axis(hidden, index[..., None], axis=1)


def _average(hidden: Float[Array, "B T D"], present: Bool[Array, "B T"]) -> Float[Array, "B D"]:
  count = jnp.maximum(jnp.sum(present, axis=1, keepdims=True), 1)
  return jnp.sum(jnp.where(present[..., None], hidden, 0.0), axis=1) / count


def _maximum(hidden: Float[Array, "B T D"], present: Bool[Array, "B T"]) -> Float[Array, "B D"]:
  lowest = jnp.finfo(jnp.float32).min
  return jnp.max(jnp.where(present[..., None], hidden, lowest), axis=1)


class RewardModel(nnx.Module):
  """r(x, y): a scalar a response, float32. The head has no bias, as in the reference code."""

  def __init__(
    self,
    architecture: Architecture,
    pooling: str,
    rngs: nnx.Rngs,
    *,
    lora: LoraConfig | None = None,
    language_head: bool = False,
  ):
    self.pooling = pooling
    self.trunk = Decoder(architecture, rngs, head=language_head, lora=lora)
    embed_dim = architecture.embed_dim
    scale = (embed_dim + 1) ** -0.5
    values = jax.random.normal(rngs.params(), (embed_dim,), jnp.float32) * scale
    self.reward_head = nnx.Param(values, axes=("embed",))

  def __call__(
    self,
    tokens: Int[Array, "B T"],
    segment_ids: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    ends: Bool[Array, "B T"],
    num_responses: int = 1,
    *,
    dropout_key: Key[Array, ""] | None = None,
  ) -> Float[Array, "B R"]:
    """Rewards of the sequences `<bos> query y_r <eos>` that each row holds, float32.

    What a row gets for a response that it does not hold means nothing.
    """
    rows = Rows(tokens, segment_ids, positions, ends, None)
    return self.judge(rows, num_responses, dropout_key=dropout_key).rewards

  def judge(
    self,
    rows: Rows,
    num_responses: int = 1,
    *,
    embeddings: bool = False,
    logprobs_of: Bool[Array, "B T"] | None = None,
    dropout_key: Key[Array, ""] | None = None,
  ) -> Judged:
    """The same of rows [B, T], with the embeddings and log-probabilities that are asked for.

    Args:
      rows: what is read; its `response_mask` is not.
      num_responses: R, that each row holds.
      embeddings: whether they are returned.
      logprobs_of: the tokens whose log-probabilities are summed; no logits are made of others
        where the vocabulary is read in chunks (`token_logprobs`). None is of none. The decoder
        needs a language-model head.
      dropout_key: turns the adapters' dropout on.
    """
    separate = num_responses == 1
    hidden, _ = self.trunk(
      rows.tokens, rows.segment_ids, rows.positions, separate=separate, dropout_key=dropout_key
    )
    pooled = pool(hidden, seen_slots(rows.segment_ids, num_responses), rows.ends, self.pooling)
    head = self.reward_head[...]
    rewards = jnp.einsum("brd,d->br", pooled, head, precision=jax.lax.Precision.HIGHEST)
    logprobs = None
    if logprobs_of is not None:
      of_tokens = logprobs_of_hidden(self.trunk, hidden, rows, logprobs_of, num_responses)
      logprobs = sum_by_response(of_tokens, rows.segment_ids, num_responses)
    return Judged(rewards, pooled if embeddings else None, logprobs)
