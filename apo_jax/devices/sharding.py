"""The device mesh, and the one table that says how arrays are laid out on it.

Every parameter and activation names its axes by meaning ("embed", "heads", "batch"). `RULES` maps
each meaning to mesh axes. The mesh has three axes:

  data    copies of the model, each with its own part of the batch
  fsdp    parts of the batch as well, and the parameters are split along it
  tensor  heads, hidden units and vocabulary are split along it

Changing a layout means changing a line of the table, not the models.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from apo_jax.config.schema import MeshConfig

AXES = ("data", "fsdp", "tensor")

RULES: dict[str | None, str | tuple[str, ...] | None] = {
  "batch": ("data", "fsdp"),
  "sequence": None,
  "layers": None,
  "embed": "fsdp",
  "heads": "tensor",
  "kv_heads": "tensor",
  "head_dim": None,
  "mlp": "tensor",
  "vocab": "tensor",
  "rank": None,
  None: None,
}


def tpu_slices(devices: Sequence[jax.Device]) -> int:
  """How many TPU slices hold these devices. Other devices count as one slice.

  Chips of one slice have links to each other; slices have a network between hosts.
  """
  if devices[0].platform != "tpu":  # a GPU's `slice_index` is its host
    return 1
  return len({getattr(device, "slice_index", 0) for device in devices})


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """The mesh of shape (data, fsdp, tensor); `config` is as `resolve_mesh` gave it.

  Of several TPU slices each holds a part of the `data` axis, so that only sums of gradients cross
  the network between them.
  """
  devices = jax.devices() if devices is None else devices
  data, fsdp, tensor = config.data, config.fsdp, config.tensor
  slices = tpu_slices(devices)
  # A torus may have no axis as long as one of the mesh's: its axes are split then.
  if slices > 1:
    arranged = mesh_utils.create_hybrid_device_mesh(
      (data // slices, fsdp, tensor), (slices, 1, 1), devices, allow_split_physical_axes=True
    )
  else:
    arranged = mesh_utils.create_device_mesh(
      (data, fsdp, tensor), devices, allow_split_physical_axes=True
    )
  return Mesh(arranged, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def partition(axes: Sequence[str | None]) -> PartitionSpec:
  """The partition of an array whose axes have these meanings."""
  return PartitionSpec(*(RULES[axis] for axis in axes))


def named(mesh: Mesh, *axes: str | None) -> NamedSharding:
  """The sharding of an array whose axes have these meanings; no axes means replicated."""
  return NamedSharding(mesh, partition(axes))


def constrain(array: jax.Array, *axes: str | None) -> jax.Array:
  """Lays out an activation inside a jitted function. Does nothing where no mesh is set."""
  if jax.sharding.get_abstract_mesh().empty:
    return array
  return jax.lax.with_sharding_constraint(array, partition(axes))


def batch_shards(mesh: Mesh) -> int:
  """Into how many parts a batch's rows are split over the devices."""
  return math.prod(mesh.shape[axis] for axis in RULES["batch"])


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
  """The rows of a global batch that live on this process's devices, ascending, Int[rows]."""
  sharding = named(mesh, "batch")
  rows: set[int] = set()
  for index in sharding.addressable_devices_indices_map((batch_size,)).values():
    rows.update(range(*index[0].indices(batch_size)))
  return np.array(sorted(rows), dtype=np.int64)


def place_batch(mesh: Mesh, local: Any, batch_size: int) -> Any:
  """Global arrays [batch_size, ...] from the rows that this process holds.

  `local` is a pytree of NumPy arrays whose first axis follows `local_rows(mesh, batch_size)`.
  """
  rows = local_rows(mesh, batch_size)
  sharding = named(mesh, "batch")

  def place(array: np.ndarray) -> jax.Array:
    def part(index: tuple[slice, ...]) -> np.ndarray:
      start, stop, _ = index[0].indices(batch_size)
      first = int(np.searchsorted(rows, start))
      return array[first : first + stop - start][(slice(None), *index[1:])]

    return jax.make_array_from_callback((batch_size, *array.shape[1:]), sharding, part)

  return jax.tree.map(place, local)
