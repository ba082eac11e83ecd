"""Rounding of what is trained in fewer bits than an update needs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from apo_jax.models.parameters import Parameters

_CUT_BITS = 16  # of float32's bits, those that bfloat16 has not


def round_stochastically(values: Float[Array, "*N"], key: Key[Array, ""]) -> Float[Array, "*N"]:
  """float32 as bfloat16: up or down, with the chances that make the mean the value itself.

  An update that is smaller than half the distance between two bfloat16 numbers, as nearly all are,
  would be lost by rounding to the nearest (arXiv 2010.06192).
  """
  bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
  noise = jax.random.bits(key, values.shape, jnp.uint16).astype(jnp.uint32)
  kept = ((bits + noise) >> _CUT_BITS).astype(jnp.uint16)
  rounded = jax.lax.bitcast_convert_type(kept, jnp.bfloat16)
  # Beyond the largest number a carry would make infinity, and of a NaN anything.
  return jnp.where(jnp.isfinite(values), rounded, values.astype(jnp.bfloat16))


def add_updates(parameters: Parameters, updates: Parameters, key: Key[Array, ""]) -> Parameters:
  """The parameters after float32 updates, each in its own type."""
  leaves, structure = jax.tree.flatten(parameters)
  keys = jax.random.split(key, len(leaves))

  def add(parameter: Array, update: Array, key: Array) -> Array:
    moved = parameter.astype(jnp.float32) + update
    return moved if parameter.dtype == jnp.float32 else round_stochastically(moved, key)

  return jax.tree.unflatten(structure, map(add, leaves, jax.tree.leaves(updates), keys))
