"""TPU slices that are not there, for tests that compile for them."""

import importlib.util
import os
from collections.abc import Sequence

import jax
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh

from apo_jax.config.schema import MeshConfig
from apo_jax.devices.sharding import make_mesh
from apo_jax.plan.devices import find_devices


def devices(topology: str, slices: int = 1) -> Sequence[jax.Device]:
  """Those of one or more equal slices; without libtpu the test is skipped."""
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("libtpu, which compiles for TPUs, is not installed: pip install 'apo_jax[tpu]'")
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # tests run side by side
  one = find_devices(topology)  # and libtpu asks no server
  if slices == 1:
    return one
  return topologies.get_topology_desc(topology, platform="tpu", num_slices=slices).devices


def mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> Mesh:
  """A mesh over a slice's first devices, at most four."""
  return make_mesh(MeshConfig(data, fsdp, tensor), devices("v5e:2x2")[: data * fsdp * tensor])
