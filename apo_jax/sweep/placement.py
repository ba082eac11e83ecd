"""Where runs that are played at once are placed: on cores or GPUs of their own."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from apo_jax.config.fields import ConfigError
from apo_jax.devices.cores import usable_cores

_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")


class Place(NamedTuple):
  """Where one of the runs played at once is.

  Attributes:
    cores: its cores; empty for all.
    environment: what its environment has beside the sweep's own.
  """

  cores: tuple[int, ...] = ()
  environment: Mapping[str, str] = {}


def places(jobs: int) -> list[Place]:
  """A place for each of the runs that are played at once.

  One run takes all that there is. Of several, each has as many cores as any other, or GPUs where
  there are such: what a phase gives depends on their number in its last bits.

  Raises:
    ConfigError: there are fewer cores or GPUs than runs.
  """
  if jobs == 1:
    return [Place()]
  gpus = [] if os.environ.get("JAX_PLATFORMS") == "cpu" else _gpus()
  if gpus:
    shares = _shares(gpus, jobs, "GPUs")
    return [Place(environment={"CUDA_VISIBLE_DEVICES": ",".join(share)}) for share in shares]
  cores = [str(core) for core in usable_cores()]
  shares = _shares(cores, jobs, "cores")
  if not hasattr(os, "sched_setaffinity"):
    return [Place()] * jobs  # this system cannot bind a process: all share all cores
  return [Place(cores=tuple(map(int, share))) for share in shares]


def _gpus() -> list[str]:
  """The GPUs that a run would see, by the names that CUDA_VISIBLE_DEVICES has for them."""
  visible = os.environ.get("CUDA_VISIBLE_DEVICES")
  if visible is not None:
    return [name for name in visible.split(",") if name and name != "-1"]
  return [str(number) for number, _ in enumerate(_NVIDIA_GPUS.glob("*"))]


def _shares(things: list[str], jobs: int, what: str) -> list[list[str]]:
  if len(things) < jobs:
    raise ConfigError(
      f"--jobs is {jobs}; it must be at most {len(things)}, the {what} there are, as each run gets"
      " its own."
    )
  size = len(things) // jobs
  return [things[number * size : (number + 1) * size] for number in range(jobs)]
