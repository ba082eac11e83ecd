"""The devices to plan for: those at hand, or TPUs or GPUs that are not there."""

import importlib.util
import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh
from jaxtyping import Int

from apo_jax.config.fields import ConfigError
from apo_jax.plan.gpus import GPUS

LOCAL = "local"


def find_devices(topology: str) -> Sequence[jax.Device]:
  """The devices of `topology`: "local", a TPU slice such as "v5e:8x8", GPUs such as "h100:1".

  Those that are not there can be compiled for and nothing else. TPUs need libtpu, GPUs JAX's CUDA
  plugin, which must not have been used before.

  Raises:
    ConfigError: what compiles for them is not installed, or knows no such devices.
  """
  if topology == LOCAL:
    return jax.devices()
  name, _, count = topology.partition(":")
  if name in GPUS:
    return _find_gpus(topology, GPUS[name], count)
  if importlib.util.find_spec("libtpu") is None:
    raise ConfigError(
      f"--topology is {topology!r}, for which libtpu compiles, and it is not installed: pip install"
      " 'apo_jax[tpu]', or give --topology=local."
    )
  # Else libtpu asks a server, which only Google's machines have, what TPU this is.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  try:
    return topologies.get_topology_desc(topology, platform="tpu").devices
  except Exception as error:  # of jaxlib; its class differs between what is wrong
    reason = " ".join(str(error).split()).rstrip(".")
    raise ConfigError(
      f"--topology is {topology!r}, which libtpu does not know ({reason}); it must be"
      " 'local', a TPU slice such as 'v5e:8x8', 'v5p:4x4x4' or 'v6e:16x16', or GPUs such as"
      " 'h100:8'."
    ) from error


def _find_gpus(topology: str, description: str, count: str) -> Sequence[jax.Device]:
  """GPUs of one machine."""
  if not count.isdecimal() or int(count) < 1:
    raise ConfigError(
      f"--topology is {topology!r}; behind the colon must be how many GPUs of one machine, as in"
      " 'h100:8'."
    )
  # Else the compiler would time its kernels on a GPU.
  flags = os.environ.get("XLA_FLAGS", "")
  os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_autotune_level=0"
  jax.devices()  # finds the plugin
  try:
    return topologies.get_topology_desc(
      platform="cuda", topology=f"1x1x{count}", target_config=description
    ).devices
  except NotImplementedError as error:
    raise ConfigError(
      f"--topology is {topology!r}, for which JAX's CUDA plugin compiles, and it is not installed:"
      " pip install 'apo_jax[cuda]', or give --topology=local."
    ) from error


def torus_coordinates(mesh: Mesh) -> Int[np.ndarray, "devices 3"]:
  """Where each device of a mesh is in the torus of its slice, in the mesh's order.

  Devices that are not TPUs lie on one axis.
  """
  devices = mesh.devices.flat
  return np.array([getattr(one, "coords", (n, 0, 0)) for n, one in enumerate(devices)])
