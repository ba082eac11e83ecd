"""TPU slices that are not there, for tests that compile for them."""

import importlib.util
from collections.abc import Sequence

import jax
import pytest
from jax.sharding import Mesh

from apo_jax.config import MeshConfig
from apo_jax.planning.devices import find_devices
from apo_jax.sharding import make_mesh


def devices(topology: str) -> Sequence[jax.Device]:
  """Those of a slice; without libtpu the test is skipped."""
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("libtpu, which compiles for TPUs, is not installed: pip install 'apo_jax[tpu]'")
  return find_devices(topology)


def mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> Mesh:
  """A mesh over a slice's first devices, at most four."""
  return make_mesh(MeshConfig(data, fsdp, tensor), devices("v5e:2x2")[: data * fsdp * tensor])
