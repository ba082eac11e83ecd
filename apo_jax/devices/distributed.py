"""Joining the processes of a run, before any of them touches a device."""

import os
import sys
import time
import types

import jax

from apo_jax.config.fields import ConfigError

_GRACE_SECONDS = 2.0


def initialize(
  coordinator_address: str | None,
  num_processes: int | None,
  process_id: int | None,
  auto: bool,
) -> None:
  """Joins this process to the others of its run, or does nothing for a run of one process.

  Given explicitly, the first three arguments say everything and the surrounding cluster is not
  asked; each process then sees all devices of its machine. With `auto` they are found from the
  TPU slice, GKE, Slurm or Open MPI that started the process.

  In a run of several processes an uncaught exception ends its process at once, with exit code 1
  (130 for an interrupt) and without what is registered with `atexit`.

  Must be called before the first JAX computation.

  Args:
    coordinator_address: host and port, like "10.0.0.1:1234", that process 0 listens on.
    num_processes: processes in the run.
    process_id: this process, from 0 to num_processes - 1.
    auto: whether to ask the cluster where the first three are not given.

  Raises:
    ConfigError: if only some of the first three are given, if the coordinator's address has no
      port, if process_id is out of range, or if `auto` finds no cluster.
  """
  given = {
    "coordinator_address": coordinator_address,
    "num_processes": num_processes,
    "process_id": process_id,
  }
  missing = [name for name, value in given.items() if value is None]
  if not missing:
    _check(coordinator_address, num_processes, process_id)
    jax.distributed.initialize(**given, cluster_detection_method="deactivate")
    _end_at_once_on_failure()
  elif len(missing) < len(given):
    present = ", ".join(f"{name} {value!r}" for name, value in given.items() if value is not None)
    raise ConfigError(
      f"{' and '.join(missing)} must be given too, beside {present}: coordinator_address,"
      " num_processes and process_id go together."
    )
  elif auto:
    try:
      jax.distributed.initialize()
    except ValueError as error:
      raise ConfigError(
        f"distributed found no cluster to join ({error}) It knows TPU slices, GKE, Slurm and"
        " Open MPI; elsewhere give coordinator_address, num_processes and process_id."
      ) from error
    _end_at_once_on_failure()


def leave(code: int) -> int:
  """Ends this process with `code`, soon where others may wait for it; else returns `code`."""
  if jax.distributed.is_initialized():
    sys.stdout.flush()
    sys.stderr.flush()
    # Others come to the same end, but may still be joining, which they cannot without process 0.
    time.sleep(_GRACE_SECONDS)
    os._exit(code)
  return code


def _check(coordinator_address: str, num_processes: int, process_id: int) -> None:
  host, _, port = coordinator_address.rpartition(":")
  if not host or not port.isdecimal():
    raise ConfigError(
      f"coordinator_address is {coordinator_address!r}; it must be host:port, like '10.0.0.1:1234'."
    )
  if num_processes < 1:
    raise ConfigError(f"num_processes is {num_processes}; it must be at least 1.")
  if not 0 <= process_id < num_processes:
    raise ConfigError(
      f"process_id is {process_id}; it must be from 0 to {num_processes - 1}, as num_processes is"
      f" {num_processes}."
    )


def _end_at_once_on_failure() -> None:
  # JAX leaves a run through a barrier that waits minutes for all processes. Those that wait for
  # this one in a computation never reach it; they, and what started them, must see this one gone.
  report = sys.excepthook

  def report_and_exit(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
  ) -> None:
    try:
      report(kind, error, trace)
      sys.stdout.flush()
      sys.stderr.flush()
    finally:
      os._exit(130 if issubclass(kind, KeyboardInterrupt) else 1)

  sys.excepthook = report_and_exit
