"""Joining the processes of a run, before any of them touches a device, and leaving it."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import jax
from jax._src import distributed as jax_distributed

from apo_jax.config.fields import ConfigError
from apo_jax.devices import interrupts
from apo_jax.devices.relay import Relay, relayed
from apo_jax.devices.watch import Watch

# JAX itself waits for five minutes, and then aborts.
_SECONDS_TO_JOIN = 290.0
_SECONDS_TO_TELL = 30.0

_watch: Watch | None = None


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

  Several processes watch each other from here on (`watch.py`), and a signal to one asks all to end
  (`interrupts.py`). An uncaught exception ends its process at once, with exit code 1 and without
  what is registered with `atexit`; the others are told of it.

  Must be called before the first JAX computation.

  Args:
    coordinator_address: host and port, like "10.0.0.1:1234", that process 0 listens on.
    num_processes: processes in the run.
    process_id: this process, from 0 to num_processes - 1.
    auto: whether to ask the cluster where the first three are not given.

  Raises:
    ConfigError: if only some of the first three are given, if the coordinator's address has no
      port, if process_id is out of range, if `auto` finds no cluster, or if the processes do not
      find each other.
  """
  given = {
    "coordinator_address": coordinator_address,
    "num_processes": num_processes,
    "process_id": process_id,
  }
  missing = [name for name, value in given.items() if value is None]
  if not missing:
    _check(coordinator_address, num_processes, process_id)
    _join(
      f"the {num_processes} processes at {coordinator_address}",
      cluster_detection_method="deactivate",
      **given,
    )
  elif len(missing) < len(given):
    present = ", ".join(f"{name} {value!r}" for name, value in given.items() if value is not None)
    raise ConfigError(
      f"{' and '.join(missing)} must be given too, beside {present}: coordinator_address,"
      " num_processes and process_id go together."
    )
  elif auto:
    try:
      _join("the processes of the cluster")
    except ConfigError:
      raise
    except ValueError as error:
      raise ConfigError(
        f"distributed found no cluster to join ({error}) It knows TPU slices, GKE, Slurm and"
        " Open MPI; elsewhere give coordinator_address, num_processes and process_id."
      ) from error


def leave(code: int, sentence: str) -> int:
  """Ends this process with `code` where there are others, which are told why; else returns it."""
  if jax.distributed.is_initialized():
    sys.stdout.flush()
    sys.stderr.flush()
    if _watch is not None:
      _watch.leave(code, sentence)
    os._exit(code)
  return code


def leave_before_joining(code: int, sentence: str, processes: tuple[Any, ...]) -> int:
  """Tells those that wait for this process that it does not come; returns `code`.

  Where the others found the same, or are not there, nobody waits long.

  Args:
    code: the exit code of all.
    sentence: why, which was said here.
    processes: the arguments of `initialize`; with those of a run of one process nothing is done.
  """
  _, num_processes, _, auto = processes
  if auto or (num_processes or 1) > 1:
    timer = threading.Timer(_SECONDS_TO_TELL, os._exit, [code])
    timer.daemon = True
    timer.start()
    with contextlib.suppress(ConfigError):
      initialize(*processes)
      leave(code, sentence)
  return code


def _join(whom: str, **options: Any) -> None:
  """Joins by JAX, and starts the watch.

  Raises:
    ConfigError: the processes do not find each other.
  """
  global _watch
  try:
    with relayed() as relays, _interruptible(), _waiting_for(whom, relays):
      jax.distributed.initialize(**options)
  except jax.errors.JaxRuntimeError as error:
    raise ConfigError(f"This process cannot join {whom}: {str(error).splitlines()[0]}.") from error
  _end_at_once_on_failure()
  state = jax_distributed.global_state
  if state.client is None or state.num_processes == 1:
    return
  relay = relays[0] if relays else None
  _watch = Watch(state.client, state.process_id, state.num_processes, relay)
  interrupts.listen_for_all(_watch.wake)
  _watch.start()
  # Before JAX's own farewell, a barrier that waits minutes for all: what is registered last is
  # called first.
  atexit.register(_watch.finish)


@contextlib.contextmanager
def _waiting_for(whom: str, relays: list[Relay]) -> Iterator[None]:
  """Ends the process with a sentence where the block takes too long."""

  def give_up() -> None:
    missing = "not all of them have come"
    if relays and not relays[0].answered.is_set():
      missing = "process 0, which must listen there, does not answer"
    print(
      f"apo_jax: This process cannot join {whom}: in {_SECONDS_TO_JOIN:.0f} seconds {missing}. The"
      " same command tries again.",
      file=sys.stderr,
      flush=True,
    )
    os._exit(interrupts.TRY_AGAIN)

  timer = threading.Timer(_SECONDS_TO_JOIN, give_up)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
  """Ctrl-C ends the process while it waits for others in JAX, which keeps Python's handlers."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = signal.signal(signal.SIGINT, signal.SIG_DFL)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before)


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
    code = 130 if issubclass(kind, KeyboardInterrupt) else 1
    try:
      if _watch is not None:
        _watch.suspect()  # the error may be that another one is gone, of which there is a sentence
      report(kind, error, trace)
      leave(code, f"{kind.__name__}: {error}".splitlines()[0])
    finally:
      os._exit(code)

  sys.excepthook = report_and_exit
