"""One decoder for the Llama family and its relatives; `Architecture` says which.

Layers are stacked: each parameter of `Layer` has a leading layer axis, and the forward pass scans
over it, so compile time does not grow with depth. Attention reads explicit segment ids and
positions, so padding on either side and several responses behind one query are one mechanism.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from apo_jax.config import LoraConfig
from apo_jax.models import lora as lora_adapters
from apo_jax.models.architecture import Architecture
from apo_jax.models.attention import (
  attend,
  attend_cache,
  attention_mask,
  rope_frequencies,
  rotate,
  soft_cap,
  within_window,
)
from apo_jax.models.attention_kernels import make_kernel
from apo_jax.models.projection import project
from apo_jax.sharding import constrain

KeyValues = tuple[Array, Array]


class Cache(NamedTuple):
  """Keys and values of what has been read, of B prompts and of W responses to each.

  Responses share one ring of M slots: every step writes one slot of all of them. Each part is keys
  and values with a leading layer axis, or a tuple of them, one a layer (`split_layers`).

  Attributes:
    prompts: Float[B, K, P, D] twice.
    responses: Float[B, W, K, M, D] twice.
  """

  prompts: KeyValues | tuple[KeyValues, ...]
  responses: KeyValues | tuple[KeyValues, ...]


class Place(NamedTuple):
  """Where one step of decoding stands.

  Attributes:
    prompt_lengths: tokens of each prompt.
    ages: tokens of each response that have been read, this step's included; 0 where a row is over.
    slot: of the ring, where this step's keys and values go. The token n steps back is n slots back.
  """

  prompt_lengths: Int[Array, "B"]
  ages: Int[Array, "B W"]
  slot: Int[Array, ""]


def split_layers(stacked: Any) -> tuple[Any, ...]:
  """A pytree whose leaves have a leading layer axis, as a tuple of pytrees, one a layer."""
  layers = jax.tree.leaves(stacked)[0].shape[0]
  return tuple(jax.tree.map(lambda leaf: leaf[n], stacked) for n in range(layers))  # noqa: B023


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
    dropout_key: for the adapters' dropout, or None.
  """

  frequencies: Array
  window: Array | None
  dropout_key: Array | None


# What a layer's queries, keys and values, rotated, become: the attended values, and what is kept.
Attend = Callable[[Array, Array, Array, LayerInput], tuple[Array, Any]]


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
    projected = project(x, weight)
    if self.architecture.attention_bias and module in ("query", "key", "value"):
      projected += getattr(self, f"{module}_bias")[...].astype(x.dtype)
    if self.lora is not None and module in self.lora.modules:
      a, b = (getattr(self, name)[...] for name in lora_adapters.names(module))
      if dropout_key is not None:
        dropout_key = jax.random.fold_in(dropout_key, self.lora.modules.index(module))
      projected += lora_adapters.low_rank(x, a, b, self.lora, dropout_key)
    return projected

  def _attention(
    self, x: Float[Array, "B T D"], positions: Int[Array, "B T"], layer: LayerInput, attend: Attend
  ) -> tuple[Float[Array, "B T D"], Any]:
    """What attention adds, and what `attend` keeps."""
    architecture = self.architecture
    queries = self._project("query", x, layer.dropout_key)
    keys = self._project("key", x, layer.dropout_key)
    values = self._project("value", x, layer.dropout_key)
    if architecture.query_key_norms:
      queries = rms_norm(queries, self.query_norm[...], architecture)
      keys = rms_norm(keys, self.key_norm[...], architecture)
    queries = rotate(queries, positions, layer.frequencies)
    keys = rotate(keys, positions, layer.frequencies)
    attended, kept = attend(queries, keys, values, layer)
    return self._project("output", attended, layer.dropout_key), kept

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
    self, x: Float[Array, "B T D"], positions: Int[Array, "B T"], layer: LayerInput, attend: Attend
  ) -> tuple[Float[Array, "B T D"], Any]:
    """The layer's output, and what `attend` keeps."""
    architecture = self.architecture
    normed = rms_norm(x, self.attention_norm[...], architecture)
    added, kept = self._attention(normed, positions, layer, attend)
    if architecture.post_norms:
      added = rms_norm(added, self.attention_post_norm[...], architecture)
    x = x + added
    added = self._mlp(rms_norm(x, self.mlp_norm[...], architecture), layer)
    if architecture.post_norms:
      added = rms_norm(added, self.mlp_post_norm[...], architecture)
    return constrain(x + added, "batch", "sequence", None), kept


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
    *,
    separate: bool = False,
    keep: bool = False,
    dropout_key: Key[Array, ""] | None = None,
  ) -> tuple[Float[Array, "B T D"], KeyValues | None]:
    """Final hidden states, normalised; with `keep`, also keys and values, [L, B, T, K, D] each.

    `separate` is the caller's word that each row is a query, at most one response to it, then
    padding, which fused attention reads faster. `dropout_key` is for training: it turns the
    adapters' dropout on.
    """
    architecture = self.architecture
    mask = attention_mask(segment_ids)
    back = positions[:, :, None] - positions[:, None, :]
    kernel = make_kernel(architecture, mask, separate=separate)

    def attend_row(queries: Array, keys: Array, values: Array, layer: LayerInput):
      kept = (keys, values) if keep else None
      if kernel is not None:
        return kernel(queries, keys, values), kept
      seen = mask if layer.window is None else mask & within_window(back, layer.window)
      return attend(queries, keys, values, seen, architecture), kept

    graphdef, stacked = nnx.split(self.layers)

    def body(x, scanned):
      parameters, layer = scanned
      return nnx.merge(graphdef, parameters)(x, positions, layer, attend_row)

    inputs = self._layer_inputs(dropout_key)
    body = _remat(body, architecture.remat)
    x, kept = jax.lax.scan(body, self._embed(tokens), (stacked, inputs))
    return rms_norm(x, self.final_norm[...], architecture), kept

  def step(
    self,
    tokens: Int[Array, "B W"],
    place: Place,
    cache: Cache,
    layers: Sequence[Any] | None = None,
  ) -> tuple[Float[Array, "B W D"], Cache]:
    """Final hidden states of the newest token of every response, and the cache with it.

    `layers` are the layers' parameters, one by one as the cache is then too; their weights are read
    where they lie. None takes the module's own, and scans over them.
    """
    graphdef, stacked = nnx.split(self.layers)
    prompt_slots, slots = (jax.tree.leaves(part)[0].shape[-2] for part in cache)
    positions = place.prompt_lengths[:, None] + place.ages - 1
    prompt_positions = jnp.arange(prompt_slots)
    prompt_back = positions[:, :, None] - prompt_positions
    response_back = jnp.mod(place.slot - jnp.arange(slots), slots)
    in_prompt = (prompt_positions < place.prompt_lengths[:, None])[:, None, :]
    in_prompt = jnp.broadcast_to(in_prompt, prompt_back.shape)
    in_response = response_back < place.ages[:, :, None]

    def layer_step(x, written, parameters, layer, prompt, index=None):
      def attend_both(queries: Array, keys: Array, values: Array, layer: LayerInput):
        far, near = in_prompt, in_response
        if layer.window is not None:
          far = far & within_window(prompt_back, layer.window)
          near = near & within_window(response_back, layer.window)
        both = tuple(
          _write(ring, new, index, place.slot)
          for ring, new in zip(written, (keys, values), strict=True)
        )
        own = both
        if index is not None:
          own = tuple(jax.lax.dynamic_index_in_dim(ring, index, keepdims=False) for ring in both)
        return attend_cache(queries, prompt, own, far, near, self.architecture), both

      return nnx.merge(graphdef, parameters)(x, positions, layer, attend_both)

    x, inputs = self._embed(tokens), self._layer_inputs(None)
    if layers is None:

      def body(carry, scanned):
        return layer_step(*carry, *scanned), None

      scanned = (stacked, inputs, cache.prompts, jnp.arange(self.architecture.layers))
      (x, responses), _ = jax.lax.scan(body, (x, cache.responses), scanned)
    else:
      traced_once, responses = jax.jit(layer_step), []
      parts = (cache.responses, layers, split_layers(inputs), cache.prompts)
      for part in zip(*parts, strict=True):
        x, written = traced_once(x, *part)
        responses.append(written)
      responses = tuple(responses)
    return rms_norm(x, self.final_norm[...], self.architecture), cache._replace(responses=responses)

  def _embed(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    architecture = self.architecture
    x = self.embedding[...].astype(architecture.compute_dtype)[tokens]
    if architecture.scaled_embeddings:
      x = x * jnp.asarray(architecture.embed_dim**0.5, x.dtype)
    return constrain(x, "batch", "sequence", None)

  def _layer_inputs(self, dropout_key: Key[Array, ""] | None) -> LayerInput:
    """What the layers get beside their parameters, stacked."""
    kinds = self.architecture.kinds
    head_dim = self.architecture.head_dim
    ropes = list(dict.fromkeys(kind.rope for kind in kinds))
    table = jnp.stack([rope_frequencies(rope, head_dim) for rope in ropes])
    windows = [kind.window for kind in kinds]
    return LayerInput(
      frequencies=table[jnp.array([ropes.index(kind.rope) for kind in kinds])],
      window=jnp.array(windows, jnp.int32) if any(windows) else None,
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


def _write(
  ring: Float[Array, "*L B W K M D"],
  new: Float[Array, "B W K D"],
  layer: Int[Array, ""] | None,
  slot: Int[Array, ""],
) -> Float[Array, "*L B W K M D"]:
  """The newest keys or values in their slot, of one layer where there are several."""
  new, first = new[:, :, :, None].astype(ring.dtype), (0, 0, 0, slot, 0)
  if layer is not None:
    new, first = new[None], (layer, *first)
  return jax.lax.dynamic_update_slice(ring, new, first)


def _remat(body, policy: str):
  """The layer with what its backward pass recomputes: nothing, all but matrix products, or all."""
  if policy == "none":
    return body
  if policy == "dots":
    keep = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return jax.checkpoint(body, policy=keep, prevent_cse=False)
  return jax.checkpoint(body, prevent_cse=False)
