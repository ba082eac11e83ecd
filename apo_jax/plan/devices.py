"""The devices to plan for: those at hand, or those of a TPU slice that is not there."""

import importlib.util
import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh
from jaxtyping import Int

from apo_jax.config.fields import ConfigError

LOCAL = "local"


def find_devices(topology: str) -> Sequence[jax.Device]:
  """The devices of `topology`: "local", or a TPU generation and its slice, such as "v5e:8x8".

  Those of a slice can be compiled for and nothing else. They need libtpu, and no TPU.

  Raises:
    ConfigError: libtpu is not installed, or knows no such slice.
  """
  if topology == LOCAL:
    return jax.devices()
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
      f"--topology is {topology!r}, which libtpu does not know ({reason}); it must be 'local' or a"
      " TPU slice such as 'v5e:8x8', 'v5p:4x4x4' or 'v6e:16x16'."
    ) from error


def torus_coordinates(mesh: Mesh) -> Int[np.ndarray, "devices 3"]:
  """Where each device of a mesh is in the torus of its slice, in the mesh's order.

  Devices that are not TPUs lie on one axis.
  """
  devices = mesh.devices.flat
  return np.array([getattr(one, "coords", (n, 0, 0)) for n, one in enumerate(devices)])
