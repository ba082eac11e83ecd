"""One decoder for the Llama family and its relatives; `Architecture` says which.

Layers are stacked: each parameter of `Layer` has a leading layer axis, and the forward pass scans
over it, so compile time does not grow with depth. Attention reads explicit segment ids and
positions, so padding on either side and several responses behind one query are one mechanism.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from apo_jax.config import LoraConfig
from apo_jax.models import lora as lora_adapters
from apo_jax.models.architecture import Architecture
from apo_jax.models.attention import (
  attend,
  attention_mask,
  rope_frequencies,
  rotate,
  soft_cap,
  within_window,
)
from apo_jax.sharding import constrain


class Cache(NamedTuple):
  """Keys and values of the tokens already read. `segment_ids` is 0 at slots not yet written."""

  keys: Float[Array, "L B S K D"]
  values: Float[Array, "L B S K D"]
  segment_ids: Int[Array, "B S"]
  positions: Int[Array, "B S"]


def empty_cache(architecture: Architecture, batch_size: int, slots: int) -> Cache:
  """A cache of `slots` empty slots for `batch_size` rows, in the compute type."""
  heads = (architecture.kv_heads, architecture.head_dim)
  zeros = jnp.zeros((architecture.layers, batch_size, slots, *heads), architecture.compute_dtype)
  empty = jnp.zeros((batch_size, slots), jnp.int32)
  return Cache(zeros, zeros, empty, empty)


def rms_norm(
  x: Float[Array, "*N D"], scale: Float[Array, "D"], architecture: Architecture
) -> Float[Array, "*N D"]:
  """Root-mean-square normalisation (arXiv 1910.07467), computed in float32."""
  wide = x.astype(jnp.float32)
  variance = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
  scale = scale.astype(jnp.float32)
  if architecture.unit_offset_norms:
    scale = 1 + scale
  return (wide * jax.lax.rsqrt(variance + architecture.norm_epsilon) * scale).astype(x.dtype)


class LayerInput(NamedTuple):
  """What one layer gets beside its parameters; stacked over layers for the scan.

  Attributes:
    frequencies: of its rotary positions, Float[D/2].
    window: how many positions back it sees, 0 for all; None where no layer has a window.
    cached: keys and values of the slots already written, Float[B, S, K, D] each, or None.
    dropout_key: for the adapters' dropout, or None.
  """

  frequencies: Array
  window: Array | None
  cached: tuple[Array, Array] | None
  dropout_key: Array | None


class Layer(nnx.Module):
  """One decoder layer: grouped-query attention and a gated unit, each behind an RMSNorm.

  Built with all layers' parameters stacked on a leading axis; called with one layer's.
  """

  def __init__(self, architecture: Architecture, lora: LoraConfig | None, rngs: nnx.Rngs):
    self.architecture = architecture
    self.lora = lora
    layers = architecture.layers
    d, h, k, n, f = (
      architecture.embed_dim,
      architecture.heads,
      architecture.kv_heads,
      architecture.head_dim,
      architecture.mlp_dim,
    )
    # Outputs into the residual stream start smaller so that its scale does not grow with depth.
    residual = (2 * layers) ** -0.5

    def weight(shape: tuple[int, ...], axes: tuple[str, ...], fan_in: int, scale: float = 1.0):
      values = jax.random.normal(rngs.params(), (layers, *shape), jnp.float32)
      return nnx.Param(values * (scale * fan_in**-0.5), axes=("layers", *axes))

    def zeros(shape: tuple[int, ...], axes: tuple[str | None, ...]):
      return nnx.Param(jnp.zeros((layers, *shape), jnp.float32), axes=("layers", *axes))

    def norm(size: int, axis: str):
      start = 0.0 if architecture.unit_offset_norms else 1.0
      return nnx.Param(jnp.full((layers, size), start, jnp.float32), axes=("layers", axis))

    self.attention_norm = norm(d, "embed")
    self.query = weight((d, h, n), ("embed", "heads", "head_dim"), d)
    self.key = weight((d, k, n), ("embed", "kv_heads", "head_dim"), d)
    self.value = weight((d, k, n), ("embed", "kv_heads", "head_dim"), d)
    self.output = weight((h, n, d), ("heads", "head_dim", "embed"), h * n, residual)
    self.mlp_norm = norm(d, "embed")
    self.gate = weight((d, f), ("embed", "mlp"), d)
    self.up = weight((d, f), ("embed", "mlp"), d)
    self.down = weight((f, d), ("mlp", "embed"), f, residual)
    if architecture.attention_bias:
      self.query_bias = zeros((h, n), ("heads", "head_dim"))
      self.key_bias = zeros((k, n), ("kv_heads", "head_dim"))
      self.value_bias = zeros((k, n), ("kv_heads", "head_dim"))
    if architecture.query_key_norms:
      self.query_norm = norm(n, "head_dim")
      self.key_norm = norm(n, "head_dim")
    if architecture.post_norms:
      self.attention_post_norm = norm(d, "embed")
      self.mlp_post_norm = norm(d, "embed")
    if lora is None:
      return
    for module in lora.modules:
      full = getattr(self, module)
      axes = full.get_metadata()["axes"]
      split = 1 + lora_adapters.INPUT_AXES[module]
      inputs, outputs = full.shape[1:split], full.shape[split:]
      a, b = lora_adapters.names(module)
      limit = math.prod(inputs) ** -0.5
      shape = (layers, *inputs, lora.rank)
      values = jax.random.uniform(rngs.params(), shape, jnp.float32, -limit, limit)
      setattr(self, a, nnx.Param(values, axes=(*axes[:split], "rank")))
      setattr(self, b, zeros((lora.rank, *outputs), ("rank", *axes[split:])))

  def _project(
    self, module: str, x: Float[Array, "B T *I"], dropout_key: Array | None
  ) -> Float[Array, "B T *O"]:
    """A projection of `x` by its weight, its bias and its adapter, where there are such."""
    weight = getattr(self, module)[...].astype(x.dtype)
    projected = lora_adapters.project(x, weight)
    if self.architecture.attention_bias and module in ("query", "key", "value"):
      projected += getattr(self, f"{module}_bias")[...].astype(x.dtype)
    if self.lora is not None and module in self.lora.modules:
      a, b = (getattr(self, name)[...] for name in lora_adapters.names(module))
      if dropout_key is not None:
        dropout_key = jax.random.fold_in(dropout_key, self.lora.modules.index(module))
      projected += lora_adapters.low_rank(x, a, b, self.lora, dropout_key)
    return projected

  def _attention(
    self,
    x: Float[Array, "B T D"],
    positions: Int[Array, "B T"],
    mask: Bool[Array, "B T S"],
    layer: LayerInput,
    offset: Int[Array, ""] | int,
  ) -> tuple[Float[Array, "B T D"], tuple[Array, Array] | None]:
    """What attention adds, and the cache with the new keys and values."""
    architecture, cached = self.architecture, layer.cached
    queries = self._project("query", x, layer.dropout_key)
    keys = self._project("key", x, layer.dropout_key)
    values = self._project("value", x, layer.dropout_key)
    if architecture.query_key_norms:
      queries = rms_norm(queries, self.query_norm[...], architecture)
      keys = rms_norm(keys, self.key_norm[...], architecture)
    queries = rotate(queries, positions, layer.frequencies)
    keys = rotate(keys, positions, layer.frequencies)
    if cached is not None:
      write = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=offset, axis=1)
      keys, values = write(cached[0], keys), write(cached[1], values)
      cached = (keys, values)
    attended = attend(queries, keys, values, mask, architecture)
    return self._project("output", attended, layer.dropout_key), cached

  def _mlp(self, x: Float[Array, "B T D"], layer: LayerInput) -> Float[Array, "B T D"]:
    """What the gated unit adds."""
    gate = self._project("gate", x, layer.dropout_key)
    if self.architecture.activation == "gelu_tanh":
      gate = jax.nn.gelu(gate, approximate=True)
    else:
      gate = jax.nn.silu(gate)
    return self._project(
      "down", gate * self._project("up", x, layer.dropout_key), layer.dropout_key
    )

  def __call__(
    self,
    x: Float[Array, "B T D"],
    positions: Int[Array, "B T"],
    key_positions: Int[Array, "B S"],
    mask: Bool[Array, "B T S"],
    layer: LayerInput,
    offset: Int[Array, ""] | int,
  ) -> tuple[Float[Array, "B T D"], tuple[Array, Array] | None]:
    """The layer's output and, where a cache came in, its keys and values with the new ones."""
    architecture = self.architecture
    if layer.window is not None:
      mask = mask & within_window(positions, key_positions, layer.window)
    normed = rms_norm(x, self.attention_norm[...], architecture)
    added, cached = self._attention(normed, positions, mask, layer, offset)
    if architecture.post_norms:
      added = rms_norm(added, self.attention_post_norm[...], architecture)
    x = x + added
    added = self._mlp(rms_norm(x, self.mlp_norm[...], architecture), layer)
    if architecture.post_norms:
      added = rms_norm(added, self.mlp_post_norm[...], architecture)
    return constrain(x + added, "batch", "sequence", None), cached


class Decoder(nnx.Module):
  """Token ids to hidden states, and hidden states to logits.

  Parameters are float32; activations have `architecture.compute_dtype`. Without a language-model
  head (`head=False`, for reward models) no parameter or array has a vocabulary axis but the
  embedding.
  """

  def __init__(
    self,
    architecture: Architecture,
    rngs: nnx.Rngs,
    *,
    head: bool = True,
    lora: LoraConfig | None = None,
  ):
    self.architecture = architecture
    shape = (architecture.vocab_rows, architecture.embed_dim)
    scale = architecture.embed_dim**-0.5

    def table():
      values = jax.random.normal(rngs.params(), shape, jnp.float32) * scale
      return nnx.Param(values, axes=("vocab", "embed"))

    self.embedding = table()
    self.layers = Layer(architecture, lora, rngs)
    start = 0.0 if architecture.unit_offset_norms else 1.0
    final_norm = jnp.full((architecture.embed_dim,), start, jnp.float32)
    self.final_norm = nnx.Param(final_norm, axes=("embed",))
    if head and not architecture.tied_embeddings:
      self.head = table()

  def __call__(
    self,
    tokens: Int[Array, "B T"],
    segment_ids: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    cache: Cache | None = None,
    offset: Int[Array, ""] | int = 0,
    *,
    dropout_key: Key[Array, ""] | None = None,
  ) -> tuple[Float[Array, "B T D"], Cache | None]:
    """Final hidden states, normalised, and the cache with these tokens at `offset`.

    `dropout_key` is for training: it turns the adapters' dropout on.
    """
    architecture = self.architecture
    x = self.embedding[...].astype(architecture.compute_dtype)[tokens]
    if architecture.scaled_embeddings:
      x = x * jnp.asarray(architecture.embed_dim**0.5, x.dtype)
    x = constrain(x, "batch", "sequence", None)
    key_segments, key_positions = segment_ids, positions
    if cache is not None:
      write = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=offset, axis=1)
      key_segments = write(cache.segment_ids, segment_ids)
      key_positions = write(cache.positions, positions)
    mask = attention_mask(segment_ids, key_segments, offset)
    graphdef, stacked = nnx.split(self.layers)

    def body(x, scanned):
      parameters, layer = scanned
      merged = nnx.merge(graphdef, parameters)
      return merged(x, positions, key_positions, mask, layer, offset)

    layers = self._layer_inputs(cache, dropout_key)
    x, written = jax.lax.scan(_remat(body, architecture.remat), x, (stacked, layers))
    x = rms_norm(x, self.final_norm[...], architecture)
    return x, None if written is None else Cache(*written, key_segments, key_positions)

  def _layer_inputs(self, cache: Cache | None, dropout_key: Key[Array, ""] | None) -> LayerInput:
    """What the layers get beside their parameters, stacked."""
    kinds = self.architecture.kinds
    head_dim = self.architecture.head_dim
    ropes = list(dict.fromkeys(kind.rope for kind in kinds))
    table = jnp.stack([rope_frequencies(rope, head_dim) for rope in ropes])
    windows = [kind.window for kind in kinds]
    return LayerInput(
      frequencies=table[jnp.array([ropes.index(kind.rope) for kind in kinds])],
      window=jnp.array(windows, jnp.int32) if any(windows) else None,
      cached=None if cache is None else (cache.keys, cache.values),
      dropout_key=None if dropout_key is None else jax.random.split(dropout_key, len(kinds)),
    )

  def logits(self, hidden: Float[Array, "*N D"]) -> Float[Array, "*N V"]:
    """Next-token logits, float32, -inf where no token is."""
    architecture = self.architecture
    table = self.embedding if architecture.tied_embeddings else self.head
    table = table[...].astype(hidden.dtype)
    logits = jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)
    if architecture.logits_softcap:
      logits = soft_cap(logits, architecture.logits_softcap)
    if architecture.vocab_rows > architecture.vocab_size:
      known = jnp.arange(architecture.vocab_rows) < architecture.vocab_size
      logits = jnp.where(known, logits, -jnp.inf)
    return logits


def _remat(body, policy: str):
  """The layer with what its backward pass recomputes: nothing, all but matrix products, or all."""
  if policy == "none":
    return body
  if policy == "dots":
    keep = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return jax.checkpoint(body, policy=keep, prevent_cse=False)
  return jax.checkpoint(body, prevent_cse=False)
