"""The reward model: a decoder without a language-model head, a pooling rule and a linear head."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from apo_jax.config import LoraConfig
from apo_jax.data.rows import PADDING_SEGMENT
from apo_jax.models.architecture import Architecture
from apo_jax.models.decoder import Decoder

# The name of the head's parameter. A policy's language-model head is called otherwise.
REWARD_HEAD = "reward_head"


def pool(
  hidden: Float[Array, "B T D"], present: Bool[Array, "B T"], pooling: str
) -> Float[Array, "B D"]:
  """One float32 vector a sequence, as the reference code of APO defines it.

  `last` reads the token before the final one (the final one is eos), `eos` the final one;
  `average` and `max` read every token that is not padding. `present` marks those; padding may be
  on either side.
  """
  hidden = hidden.astype(jnp.float32)
  if pooling == "average":
    count = jnp.maximum(jnp.sum(present, axis=1, keepdims=True), 1)
    return jnp.sum(jnp.where(present[..., None], hidden, 0.0), axis=1) / count
  if pooling == "max":
    lowest = jnp.finfo(jnp.float32).min
    return jnp.max(jnp.where(present[..., None], hidden, lowest), axis=1)
  slots = jnp.where(present, jnp.arange(present.shape[1]), 0)
  index = jnp.max(slots, axis=1) - (1 if pooling == "last" else 0)
  # A row of padding alone has no token to read; slot 0 keeps it finite.
  index = jnp.maximum(index, 0)
  return jnp.take_along_axis(hidden, index[:, None, None], axis=1)[:, 0]


class RewardModel(nnx.Module):
  """r(x, y): a scalar a sequence, float32. The head has no bias, as in the reference code."""

  def __init__(
    self,
    architecture: Architecture,
    pooling: str,
    rngs: nnx.Rngs,
    *,
    lora: LoraConfig | None = None,
  ):
    self.pooling = pooling
    self.trunk = Decoder(architecture, rngs, head=False, lora=lora)
    embed_dim = architecture.embed_dim
    scale = (embed_dim + 1) ** -0.5
    values = jax.random.normal(rngs.params(), (embed_dim,), jnp.float32) * scale
    self.reward_head = nnx.Param(values, axes=("embed",))

  def __call__(
    self,
    tokens: Int[Array, "B T"],
    segment_ids: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    *,
    dropout_key: Key[Array, ""] | None = None,
  ) -> Float[Array, "B"]:
    """Rewards of whole sequences `<bos> query response <eos>`, float32."""
    hidden, _ = self.trunk(tokens, segment_ids, positions, dropout_key=dropout_key)
    pooled = pool(hidden, segment_ids != PADDING_SEGMENT, self.pooling)
    return jnp.einsum("bd,d->b", pooled, self.reward_head[...], precision=jax.lax.Precision.HIGHEST)
