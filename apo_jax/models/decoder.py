"""One config-driven decoder of the Llama family.

Layers are stacked: each parameter of `Layer` has a leading layer axis, and the forward pass scans
over it, so compile time does not grow with depth. Attention reads explicit segment ids and
positions, so padding on either side and several responses behind one query are one mechanism.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from apo_jax.config import ModelConfig
from apo_jax.data.rows import PADDING_SEGMENT, SHARED_SEGMENT
from apo_jax.sharding import constrain


class Cache(NamedTuple):
  """Keys and values of the tokens already read. `segment_ids` is 0 at slots not yet written."""

  keys: Float[Array, "L B S K D"]
  values: Float[Array, "L B S K D"]
  segment_ids: Int[Array, "B S"]


def empty_cache(config: ModelConfig, batch_size: int, slots: int) -> Cache:
  """A cache of `slots` empty slots for `batch_size` rows, in the compute type."""
  shape = (config.layers, batch_size, slots, config.kv_heads, config.head_dim)
  zeros = jnp.zeros(shape, config.compute_dtype)
  return Cache(zeros, zeros, jnp.zeros((batch_size, slots), jnp.int32))


def attention_mask(
  query_segments: Int[Array, "B T"],
  key_segments: Int[Array, "B S"],
  offset: Int[Array, ""] | int = 0,
) -> Bool[Array, "B T S"]:
  """Which slot sees which: itself and earlier slots of its own or of the shared segment.

  `offset` is the slot of the first row of `query_segments`; keys begin at slot 0.
  """
  query_slots = offset + jnp.arange(query_segments.shape[1])
  causal = query_slots[:, None] >= jnp.arange(key_segments.shape[1])[None, :]
  keys = key_segments[:, None, :]
  same = keys == query_segments[:, :, None]
  return causal & (same | (keys == SHARED_SEGMENT)) & (keys != PADDING_SEGMENT)


def rotate(x: Float[Array, "B T N D"], positions: Int[Array, "B T"], theta: float) -> Array:
  """Rotary position embedding (arXiv 2104.09864), pairs (i, i + D/2), computed in float32."""
  half = x.shape[-1] // 2
  frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angles = positions[..., None, None].astype(jnp.float32) * frequencies
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return rotated.astype(x.dtype)


def rms_norm(x: Float[Array, "B T D"], scale: Float[Array, "D"], epsilon: float) -> Array:
  """Root-mean-square normalisation (arXiv 1910.07467), computed in float32."""
  wide = x.astype(jnp.float32)
  variance = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
  return (wide * jax.lax.rsqrt(variance + epsilon) * scale.astype(jnp.float32)).astype(x.dtype)


class Layer(nnx.Module):
  """One decoder layer: grouped-query attention and SwiGLU, each behind an RMSNorm.

  Built with all layers' parameters stacked on a leading axis; called with one layer's.
  """

  def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
    self.config = config
    d, h, k, n, f = (
      config.embed_dim,
      config.heads,
      config.kv_heads,
      config.head_dim,
      config.mlp_dim,
    )
    # Outputs into the residual stream start smaller so that its scale does not grow with depth.
    residual = (2 * config.layers) ** -0.5

    def weight(shape: tuple[int, ...], axes: tuple[str, ...], fan_in: int, scale: float = 1.0):
      values = jax.random.normal(rngs.params(), (config.layers, *shape), jnp.float32)
      return nnx.Param(values * (scale * fan_in**-0.5), axes=("layers", *axes))

    def ones(axis: str):
      return nnx.Param(jnp.ones((config.layers, d), jnp.float32), axes=("layers", axis))

    self.attention_norm = ones("embed")
    self.query = weight((d, h, n), ("embed", "heads", "head_dim"), d)
    self.key = weight((d, k, n), ("embed", "kv_heads", "head_dim"), d)
    self.value = weight((d, k, n), ("embed", "kv_heads", "head_dim"), d)
    self.output = weight((h, n, d), ("heads", "head_dim", "embed"), h * n, residual)
    self.mlp_norm = ones("embed")
    self.gate = weight((d, f), ("embed", "mlp"), d)
    self.up = weight((d, f), ("embed", "mlp"), d)
    self.down = weight((f, d), ("mlp", "embed"), f, residual)

  def __call__(
    self,
    x: Float[Array, "B T D"],
    positions: Int[Array, "B T"],
    mask: Bool[Array, "B T S"],
    cached: tuple[Float[Array, "B S K N"], Float[Array, "B S K N"]] | None,
    offset: Int[Array, ""] | int,
  ) -> tuple[Float[Array, "B T D"], tuple[Array, Array] | None]:
    """The layer's output and, where a cache came in, its keys and values with the new ones."""
    config = self.config
    dtype = x.dtype
    normed = rms_norm(x, self.attention_norm[...], config.norm_epsilon)
    queries = jnp.einsum("btd,dhn->bthn", normed, self.query[...].astype(dtype))
    keys = jnp.einsum("btd,dkn->btkn", normed, self.key[...].astype(dtype))
    values = jnp.einsum("btd,dkn->btkn", normed, self.value[...].astype(dtype))
    queries = rotate(queries, positions, config.rope_theta)
    keys = rotate(keys, positions, config.rope_theta)
    if cached is not None:
      write = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=offset, axis=1)
      keys, values = write(cached[0], keys), write(cached[1], values)
      cached = (keys, values)
    attended = jax.nn.dot_product_attention(queries, keys, values, mask=mask[:, None])
    x = x + jnp.einsum("bthn,hnd->btd", attended, self.output[...].astype(dtype))
    normed = rms_norm(x, self.mlp_norm[...], config.norm_epsilon)
    gate = jnp.einsum("btd,df->btf", normed, self.gate[...].astype(dtype))
    up = jnp.einsum("btd,df->btf", normed, self.up[...].astype(dtype))
    x = x + jnp.einsum("btf,fd->btd", jax.nn.silu(gate) * up, self.down[...].astype(dtype))
    return constrain(x, "batch", "sequence", None), cached


class Decoder(nnx.Module):
  """Token ids to hidden states, and hidden states to logits.

  Parameters are float32; activations have `config.compute_dtype`. Without a language-model head
  (`head=False`, for reward models) no parameter or array has a vocabulary axis but the embedding.
  """

  def __init__(self, config: ModelConfig, vocab_size: int, rngs: nnx.Rngs, *, head: bool = True):
    self.config = config
    shape = (vocab_size, config.embed_dim)
    scale = config.embed_dim**-0.5

    def table():
      values = jax.random.normal(rngs.params(), shape, jnp.float32) * scale
      return nnx.Param(values, axes=("vocab", "embed"))

    self.embedding = table()
    self.layers = Layer(config, rngs)
    self.final_norm = nnx.Param(jnp.ones((config.embed_dim,), jnp.float32), axes=("embed",))
    if head and not config.tied_embeddings:
      self.head = table()

  def __call__(
    self,
    tokens: Int[Array, "B T"],
    segment_ids: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    cache: Cache | None = None,
    offset: Int[Array, ""] | int = 0,
  ) -> tuple[Float[Array, "B T D"], Cache | None]:
    """Final hidden states, normalised, and the cache with these tokens at `offset`."""
    x = self.embedding[...].astype(self.config.compute_dtype)[tokens]
    x = constrain(x, "batch", "sequence", None)
    if cache is None:
      key_segments = segment_ids
    else:
      key_segments = jax.lax.dynamic_update_slice_in_dim(
        cache.segment_ids, segment_ids, offset, axis=1
      )
    mask = attention_mask(segment_ids, key_segments, offset)
    graphdef, stacked = nnx.split(self.layers)

    def body(x, scanned):
      parameters, cached = scanned
      return nnx.merge(graphdef, parameters)(x, positions, mask, cached, offset)

    cached = None if cache is None else (cache.keys, cache.values)
    x, written = jax.lax.scan(_remat(body, self.config.remat), x, (stacked, cached))
    x = rms_norm(x, self.final_norm[...], self.config.norm_epsilon)
    return x, None if written is None else Cache(*written, key_segments)

  def logits(self, hidden: Float[Array, "*N D"]) -> Float[Array, "*N V"]:
    """Next-token logits, float32."""
    table = self.embedding if self.config.tied_embeddings else self.head
    table = table[...].astype(hidden.dtype)
    return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)


def _remat(body, policy: str):
  """The layer with what its backward pass recomputes: nothing, all but matrix products, or all."""
  if policy == "none":
    return body
  if policy == "dots":
    keep = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return jax.checkpoint(body, policy=keep, prevent_cse=False)
  return jax.checkpoint(body, prevent_cse=False)
