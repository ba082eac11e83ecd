"""Random parameters of our models."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from apo_jax.models.definition import Definition
from apo_jax.models.parameters import Parameters
from benchmarks.contestants.our_weights import SEED

SCALE = 0.02  # of weights


def make(definition: Definition) -> Parameters:
  """Those that a run starts from, or beside adapters random numbers in the types they are kept in.

  Of a large frozen model no wider copy is made, not for a moment: the most memory that is seen then
  is the step's. Nothing that is timed depends on the numbers.
  """
  if definition.lora is None:
    return definition.init(SEED)
  leaves, structure = jax.tree_util.tree_flatten_with_path(definition.abstract)
  keys = jax.random.split(jax.random.key(SEED), len(leaves))
  made = []
  for key, (path, leaf) in zip(keys, leaves, strict=True):
    is_norm = getattr(path[-1], "key", "").endswith("norm")
    made.append(_make(key, leaf, is_norm))
  return jax.tree.unflatten(structure, made)


def _make(key: Array, leaf: jax.ShapeDtypeStruct, is_norm: bool) -> Array:
  def part(key: Array, shape: tuple[int, ...]) -> Array:
    if is_norm:
      return jnp.ones(shape, leaf.dtype)
    if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize >= 2:
      return (SCALE * jax.random.normal(key, shape, jnp.bfloat16)).astype(leaf.dtype)
    return jax.random.randint(key, shape, 0, 8, jnp.int8).astype(leaf.dtype)  # codes

  def whole(key: Array) -> Array:
    if len(leaf.shape) < 3:
      return part(key, leaf.shape)
    # One layer of it at a time.
    each = jax.random.split(key, leaf.shape[0])
    return jax.lax.map(lambda key: part(key, leaf.shape[1:]), each)

  return jax.jit(whole, out_shardings=leaf.sharding)(key)
