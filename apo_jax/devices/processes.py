"""What the processes of a run agree on."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def barrier(name: str) -> None:
  """Waits until every process is here: what the first one wrote is there for all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def of_the_first(value: int) -> int:
  """The first process's value, in every process.

  On a shared file system the others may not yet see a file: the first looks, and all agree.
  """
  if jax.process_count() == 1:
    return value
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def any_process(value: bool) -> bool:
  """Whether it is true in any process; every one must call this."""
  if jax.process_count() == 1:
    return value
  return bool(np.any(multihost_utils.process_allgather(np.array(value))))
