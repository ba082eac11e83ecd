"""One decoder layer: what it computes, not what it attends to."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from apo_jax.config.schema import LoraConfig
from apo_jax.devices.sharding import constrain
from apo_jax.models import lora as lora_adapters
from apo_jax.models.architecture import Architecture
from apo_jax.models.attention import rotate
from apo_jax.models.frozen import Kept, in_full
from apo_jax.models.projection import project


def rms_norm(
  x: Float[Array, "*N D"], scale: Float[Array, "*H D"], architecture: Architecture
) -> Float[Array, "*N D"]:
  """Root-mean-square normalisation (arXiv 1910.07467) over all axes of `scale`, in float32."""
  wide = x.astype(jnp.float32)
  variance = jnp.mean(jnp.square(wide), axis=tuple(range(-scale.ndim, 0)), keepdims=True)
  scale = scale.astype(jnp.float32)
  if architecture.unit_offset_norms:
    scale = 1 + scale
  return (wide * jax.lax.rsqrt(variance + architecture.norm_epsilon) * scale).astype(x.dtype)


class LayerInput(NamedTuple):
  """What one layer gets beside its parameters; stacked over layers for the scan.

  Attributes:
    rope: which of the model's rotary embeddings it has, Int[].
    window: how many positions back it sees, 0 for all; None where no layer has a window.
    dropout_key: for the adapters' dropout, or None.
  """

  rope: Array
  window: Array | None
  dropout_key: Array | None


# What a layer's queries, keys and values, rotated, become: the attended values, and what is kept.
Attend = Callable[[Array, Array, Array, LayerInput], tuple[Array, Any]]


class Layer(nnx.Module):
  """One decoder layer: grouped-query attention and a gated unit, each with its RMSNorms.

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

    def norm(shape: tuple[int, ...], axes: tuple[str, ...]):
      start = 0.0 if architecture.unit_offset_norms else 1.0
      return nnx.Param(jnp.full((layers, *shape), start, jnp.float32), axes=("layers", *axes))

    if architecture.pre_norms:
      self.attention_norm = norm((d,), ("embed",))
      self.mlp_norm = norm((d,), ("embed",))
    self.query = weight((d, h, n), ("embed", "heads", "head_dim"), d)
    self.key = weight((d, k, n), ("embed", "kv_heads", "head_dim"), d)
    self.value = weight((d, k, n), ("embed", "kv_heads", "head_dim"), d)
    self.output = weight((h, n, d), ("heads", "head_dim", "embed"), h * n, residual)
    self.gate = weight((d, f), ("embed", "mlp"), d)
    self.up = weight((d, f), ("embed", "mlp"), d)
    self.down = weight((f, d), ("mlp", "embed"), f, residual)
    if architecture.attention_bias:
      self.query_bias = zeros((h, n), ("heads", "head_dim"))
      self.key_bias = zeros((k, n), ("kv_heads", "head_dim"))
      self.value_bias = zeros((k, n), ("kv_heads", "head_dim"))
    if architecture.query_key_norms == "head":
      self.query_norm = norm((n,), ("head_dim",))
      self.key_norm = norm((n,), ("head_dim",))
    elif architecture.query_key_norms == "heads":
      self.query_norm = norm((h, n), ("heads", "head_dim"))
      self.key_norm = norm((k, n), ("kv_heads", "head_dim"))
    if architecture.post_norms:
      self.attention_post_norm = norm((d,), ("embed",))
      self.mlp_post_norm = norm((d,), ("embed",))
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
    projected = self._product(x, getattr(self, module).get_value())
    if self.architecture.attention_bias and module in ("query", "key", "value"):
      projected += getattr(self, f"{module}_bias")[...].astype(x.dtype)
    if self.lora is not None and module in self.lora.modules:
      a, b = (getattr(self, name)[...] for name in lora_adapters.names(module))
      if dropout_key is not None:
        dropout_key = jax.random.fold_in(dropout_key, self.lora.modules.index(module))
      projected += lora_adapters.low_rank(x, a, b, self.lora, dropout_key)
    return projected

  def _product(self, x: Float[Array, "B T *I"], weight: Kept) -> Float[Array, "B T *O"]:
    """The product with a weight of any type, which is whole no longer than that takes."""

    def product(x: Array, weight: Kept) -> Array:
      return project(x, in_full(weight, x.dtype))

    if self.lora is not None and self.architecture.remat == "none":
      # Else the backward pass would keep every layer's weight as products read it.
      product = jax.checkpoint(product, prevent_cse=False)
    return product(x, weight)

  def _attention(
    self,
    x: Float[Array, "B T D"],
    turns: Float[Array, "ropes 2 B T half"],
    layer: LayerInput,
    attend: Attend,
  ) -> tuple[Float[Array, "B T D"], Any]:
    """What attention adds, and what `attend` keeps."""
    architecture = self.architecture
    queries = self._project("query", x, layer.dropout_key)
    keys = self._project("key", x, layer.dropout_key)
    values = self._project("value", x, layer.dropout_key)
    if architecture.query_key_norms != "none":
      queries = rms_norm(queries, self.query_norm[...], architecture)
      keys = rms_norm(keys, self.key_norm[...], architecture)
    turns = turns[layer.rope]
    queries, keys = rotate(queries, turns), rotate(keys, turns)
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
    self,
    x: Float[Array, "B T D"],
    turns: Float[Array, "ropes 2 B T half"],
    layer: LayerInput,
    attend: Attend,
  ) -> tuple[Float[Array, "B T D"], Any]:
    """The layer's output, and what `attend` keeps."""
    added, kept = self._attention(self._normed("attention_norm", x), turns, layer, attend)
    x = x + self._scaled("attention_post_norm", added)
    added = self._mlp(self._normed("mlp_norm", x), layer)
    x = x + self._scaled("mlp_post_norm", added)
    return constrain(x, "batch", "sequence", None), kept

  def _normed(self, norm: str, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    """What attention or MLP reads of the residual."""
    if not self.architecture.pre_norms:
      return x
    return rms_norm(x, getattr(self, norm)[...], self.architecture)

  def _scaled(self, norm: str, added: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    """What joins the residual of what attention or MLP adds."""
    if self.architecture.post_norms:
      added = rms_norm(added, getattr(self, norm)[...], self.architecture)
    if self.architecture.residual_scale != 1.0:
      wide = added.astype(jnp.float32)  # in 16 bits the scale itself would be rounded
      added = (wide * self.architecture.residual_scale).astype(added.dtype)
    return added
