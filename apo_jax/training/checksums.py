"""Checksums of arrays that do not depend on how they are split over devices.

A checksum is kept beside what a checkpoint holds and taken again of what was read: a file system,
a disk or a copy that changed a bit does not go unnoticed. Each number is mixed with its place in
its array, by a function that no two bit patterns share, and all are added up modulo 2^32: whoever
holds a part adds up that part. One changed number always changes the sum. Two sums that mix
differently are taken, so that of many changes one in 2^64 goes unnoticed.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Num, UInt32

_SEEDS = (0x9E3779B9, 0x7F4A7C15)


def checksums(tree: Any) -> dict[str, str]:
  """The checksum of every array of a tree, 16 hexadecimal digits, by its path.

  Numbers are compared as bits: -0.0 is not 0.0, and one NaN not another. With several processes
  every one calls this and is told the same.

  Args:
    tree: of JAX arrays of at most 32 bits a number, on one mesh's devices or on one device.
  """
  named, _ = jax.tree_util.tree_flatten_with_path(tree)
  if not named:
    return {}
  leaves = [leaf for _, leaf in named]
  meshes = {leaf.sharding.mesh for leaf in leaves if isinstance(leaf.sharding, NamedSharding)}
  sums = np.asarray(_summed(meshes.pop() if len(meshes) == 1 else None)(leaves))
  return {
    jax.tree_util.keystr(path): f"{pair[0]:08x}{pair[1]:08x}"
    for (path, _), pair in zip(named, sums, strict=True)
  }


@functools.lru_cache
def _summed(mesh: Mesh | None) -> Any:
  """All arrays' sums in one program, the same on every device."""
  if mesh is None:
    return jax.jit(_sums)
  return jax.jit(_sums, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _sums(leaves: list[Num[Array, "..."]]) -> UInt32[Array, "arrays 2"]:
  return jnp.stack([_sum(leaf) for leaf in leaves])


def _sum(array: Num[Array, "..."]) -> UInt32[Array, "2"]:
  bits, place = _bits(array), _places(array.shape)
  sums = [
    # For one place this is one bit pattern's alone: an exclusive or, then a mixing that can be
    # undone.
    jnp.sum(_mix(bits ^ _mix(place + jnp.uint32(seed))), dtype=jnp.uint32)
    for seed in _SEEDS
  ]
  return jnp.stack(sums)


def _bits(array: Num[Array, "..."]) -> UInt32[Array, "..."]:
  if array.dtype == jnp.bool_:
    return array.astype(jnp.uint32)
  unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[array.dtype.itemsize]
  return jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)


def _places(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
  """Each number's place in the flat array, without a reshape, which would gather what is split."""
  places = jnp.zeros(shape, jnp.uint32)
  for axis in range(len(shape)):
    stride = math.prod(shape[axis + 1 :]) % 2**32
    places += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
  return places


def _mix(bits: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
  """A permutation of the numbers of 32 bits, each bit of which depends on all.

  The finaliser of MurmurHash3 (Appleby, public domain).
  """
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
  bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
  return bits ^ (bits >> 16)
