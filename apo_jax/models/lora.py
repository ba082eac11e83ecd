"""Low-rank adapters (LoRA, arXiv 2106.09685): W x + alpha / rank * B A dropout(x), W frozen.

An adapter of projection `query` is two parameters of the layer, `lora_query_a` and
`lora_query_b`. B starts at zero, so that a fresh adapter changes nothing.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from apo_jax.config.schema import LoraConfig
from apo_jax.models.parameters import Parameters
from apo_jax.models.projection import project

PREFIX = "lora_"

# Each projection of a layer, and how many axes of its weight are its input's.
INPUT_AXES = {"query": 1, "key": 1, "value": 1, "output": 2, "gate": 1, "up": 1, "down": 1}


def names(module: str) -> tuple[str, str]:
  """The names of a projection's A and B."""
  return f"{PREFIX}{module}_a", f"{PREFIX}{module}_b"


def low_rank(
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
  narrow = project(x, a.astype(x.dtype))
  return project(narrow, b.astype(x.dtype)) * (config.alpha / config.rank)


def adapted(layers: Parameters) -> Iterator[str]:
  """The projections that have an adapter among a decoder's stacked layers."""
  return (module for module in INPUT_AXES if names(module)[0] in layers)


@functools.partial(jax.jit, static_argnames="config")
def merge(layers: Parameters, config: LoraConfig) -> Parameters:
  """The stacked layers with every adapter added into its weight, and no adapters left."""
  merged = {name: value for name, value in layers.items() if not name.startswith(PREFIX)}
  for module in adapted(layers):
    a, b = (layers[name] for name in names(module))
    product = functools.partial(jnp.tensordot, axes=1, precision=jax.lax.Precision.HIGHEST)
    change = jax.vmap(product)(a, b)
    merged[module] = merged[module] + change * (config.alpha / config.rank)
  return merged
