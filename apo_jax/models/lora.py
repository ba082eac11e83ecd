"""Low-rank adapters (LoRA, arXiv 2106.09685): W x + alpha / rank * B A dropout(x), W frozen.

An adapter of projection `query` is two parameters of the layer, `lora_query_a` and
`lora_query_b`. B starts at zero, so that a fresh adapter changes nothing.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from apo_jax.config import LoraConfig

Parameters = dict[str, Any]

PREFIX = "lora_"

# How each projection contracts its input [B, T, ...] with its weight: axes in, then axes out.
EQUATIONS = {
  "query": "btd,dhn->bthn",
  "key": "btd,dhn->bthn",
  "value": "btd,dhn->bthn",
  "output": "bthn,hnd->btd",
  "gate": "btd,df->btf",
  "up": "btd,df->btf",
  "down": "btf,fd->btd",
}


def names(module: str) -> tuple[str, str]:
  """The names of a projection's A and B."""
  return f"{PREFIX}{module}_a", f"{PREFIX}{module}_b"


def contracted_axes(module: str) -> int:
  """How many axes of a projection's weight are its input's."""
  left, right = EQUATIONS[module].split("->")[0].split(",")
  return sum(axis in left for axis in right)


def low_rank(
  module: str,
  x: Float[Array, "B T *I"],
  a: Float[Array, "*I R"],
  b: Float[Array, "R *O"],
  config: LoraConfig,
  key: Key[Array, ""] | None,
) -> Float[Array, "B T *O"]:
  """What an adapter adds to its projection of `x`; `key` is for dropout, None turns it off."""
  if key is not None and config.dropout:
    kept = jax.random.bernoulli(key, 1 - config.dropout, x.shape)
    x = jnp.where(kept, x / (1 - config.dropout), 0).astype(x.dtype)
  axes = contracted_axes(module)
  narrow = jnp.tensordot(x, a.astype(x.dtype), axes)
  return jnp.tensordot(narrow, b.astype(x.dtype), 1) * (config.alpha / config.rank)


def adapted(layers: Parameters) -> Iterator[str]:
  """The projections that have an adapter among a decoder's stacked layers."""
  return (module for module in EQUATIONS if names(module)[0] in layers)


@functools.partial(jax.jit, static_argnames="config")
def merge(layers: Parameters, config: LoraConfig) -> Parameters:
  """The stacked layers with every adapter added into its weight, and no adapters left."""
  merged = {name: value for name, value in layers.items() if not name.startswith(PREFIX)}
  for module in adapted(layers):
    a, b = (layers[name] for name in names(module))
    change = jax.vmap(lambda a, b: jnp.tensordot(a, b, 1))(a, b)
    merged[module] = merged[module] + change * (config.alpha / config.rank)
  return merged
