"""Arrays parked in the host's memory while nobody computes with them, and fetched from there.

JAX calls the memories of a device by kinds: its own, and what it reaches of the host's, page-locked
where copies from there are fast. A parked array keeps its layout over the devices.
"""

from collections.abc import Collection
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

PINNED, UNPINNED = "pinned_host", "unpinned_host"


def host_memory(mesh: Mesh) -> str:
  """The kind of host memory that the mesh's devices reach: page-locked where there is such."""
  device = mesh.local_devices[0]
  kinds = {memory.kind for memory in device.addressable_memories()}
  return PINNED if PINNED in kinds else UNPINNED


def park(tree: Any, kind: str, in_use: Collection[int] = ()) -> Any:
  """The arrays of a pytree in host memory of that kind, but for those whose `id` is in use."""

  def move(array: jax.Array) -> jax.Array:
    if id(array) in in_use or array.sharding.memory_kind == kind:
      return array
    return jax.device_put(array, array.sharding.with_memory_kind(kind))

  return jax.tree.map(move, tree)


def fetch(tree: Any, kind: str) -> Any:
  """The arrays of a pytree in device memory; those that are parked in `kind` are copied there."""

  def move(array: jax.Array) -> jax.Array:
    if array.sharding.memory_kind != kind:
      return array
    return jax.device_put(array, NamedSharding(array.sharding.mesh, array.sharding.spec))

  return jax.tree.map(move, tree)
