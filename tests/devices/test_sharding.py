import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from apo_jax.config.schema import MeshConfig
from apo_jax.devices.sharding import (
  constrain,
  local_rows,
  make_mesh,
  named,
  partition,
  place_batch,
  tpu_slices,
)
from tests import tiny, tpu


def test_one_device_holds_every_row():
  rows = local_rows(tiny.mesh(), 5)
  np.testing.assert_array_equal(rows, [0, 1, 2, 3, 4])
  assert rows.dtype == np.int64


def test_a_placed_batch_is_the_batch():
  mesh = tiny.mesh()
  local = {
    "tokens": np.arange(12, dtype=np.int32).reshape(4, 3),
    "scores": (np.array([1.0, np.nan, -0.0, 2.0], np.float32),),
    "mask": np.eye(4, dtype=bool).reshape(4, 2, 2),
  }
  placed = place_batch(mesh, local, 4)
  assert jax.tree.structure(placed) == jax.tree.structure(local)
  for array, expected in zip(jax.tree.leaves(placed), jax.tree.leaves(local), strict=True):
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype
    assert array.sharding == named(mesh, "batch")


def test_partitions_by_hand():
  assert partition(("batch", "sequence", "heads", "head_dim")) == PartitionSpec(
    ("data", "fsdp"), None, "tensor", None
  )
  assert partition(("layers", "embed", "mlp")) == PartitionSpec(None, "fsdp", "tensor")
  assert partition(("vocab", None)) == PartitionSpec("tensor", None)
  assert partition(()) == PartitionSpec()
  assert named(tiny.mesh(), "vocab") == NamedSharding(tiny.mesh(), PartitionSpec("tensor"))


def test_an_unknown_axis_raises():
  with pytest.raises(KeyError, match="colour"):
    partition(("batch", "colour"))


def test_without_a_mesh_nothing_is_constrained():
  array = jnp.arange(6.0).reshape(2, 3)
  assert constrain(array, "batch", "mlp") is array
  assert "sharding_constraint" not in str(jax.make_jaxpr(lambda x: constrain(x, "batch"))(array))


def test_with_a_mesh_the_layout_is_constrained_and_the_values_stay():
  array = jnp.arange(6.0).reshape(2, 3)
  with jax.set_mesh(tiny.mesh()):
    result = jax.jit(lambda x: constrain(x, "batch", "mlp"))(array)
    jaxpr = jax.make_jaxpr(lambda x: constrain(x, "batch", "mlp"))(array)
  np.testing.assert_array_equal(result, array)
  assert "sharding_constraint" in str(jaxpr)


def test_a_mesh_may_split_the_axes_of_a_torus():
  """No axis of 8 × 8 × 8 chips has 4, and each chip has its place all the same."""
  devices = tpu.devices("v5p:8x8x8")
  mesh = make_mesh(MeshConfig(1, 128, 4), devices)
  assert mesh.devices.shape == (1, 128, 4)
  assert {device.id for device in mesh.devices.flat} == {device.id for device in devices}


def test_several_slices_split_the_data_axis():
  """Weights (fsdp, tensor) are split over chips of one slice alone."""
  devices = tpu.devices("v5e:4x4", slices=2)
  assert tpu_slices(devices) == 2
  mesh = make_mesh(MeshConfig(4, 4, 2), devices)
  assert mesh.devices.shape == (4, 4, 2)
  assert {device.id for device in mesh.devices.flat} == {device.id for device in devices}
  slices = np.vectorize(lambda device: device.slice_index)(mesh.devices)
  np.testing.assert_array_equal(slices, np.broadcast_to([[[0]], [[0]], [[1]], [[1]]], (4, 4, 2)))


def test_devices_that_are_no_tpus_are_one_slice():
  assert tpu_slices(jax.devices()) == 1
