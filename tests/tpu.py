"""TPU slices that are not there, for tests that compile for them."""

import importlib.util

import pytest
from jax.sharding import Mesh

from apo_jax.config import MeshConfig
from apo_jax.planning.devices import find_devices
from apo_jax.sharding import make_mesh


def mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> Mesh:
  """A mesh over a slice's first devices, at most four; without libtpu the test is skipped."""
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("libtpu, which compiles for TPUs, is not installed: pip install 'apo_jax[tpu]'")
  devices = find_devices("v5e:2x2")[: data * fsdp * tensor]
  return make_mesh(MeshConfig(data, fsdp, tensor), devices)
