"""One run of a sweep as a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from apo_jax.devices.cores import usable_cores
from apo_jax.logs.locks import Lock, try_lock
from apo_jax.sweep.placement import Place
from apo_jax.sweep.runs import Planned

_LOCK = "sweep.lock"


class RunProcess:
  """A run that is being played.

  It holds the lock of its run directory until it ends, whatever becomes of the sweep: a sweep that
  is started again does not play a run twice at once.

  Attributes:
    started: the clock when it was.

  Args:
    run: what it plays.
    place: its cores and environment.
    lock: of its run directory (`try_lock_run`), which it takes over.
  """

  def __init__(self, run: Planned, place: Place, lock: Lock):
    self.started = time.monotonic()
    with run.log.open("ab") as log, lock, _on_cores(place.cores):
      self._process = subprocess.Popen(
        [sys.executable, "-m", "apo_jax.main", *run.arguments],
        env={**os.environ, "PYTHONUNBUFFERED": "1", **place.environment},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=(lock.descriptor,),
        # A session of its own: Ctrl-C reaches it once, through the sweep, with its children.
        start_new_session=True,
      )

  @property
  def code(self) -> int | None:
    """Its exit code; None while it runs."""
    return self._process.poll()

  def send(self, number: signal.Signals) -> None:
    """Sends a signal to it and its children, if it still runs."""
    if self.code is None:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(self._process.pid, number)


def try_lock_run(run: Planned) -> Lock | None:
  """Takes the lock of a run's directory; None where a sweep, or a run that it left, holds it."""
  return try_lock(run.run_dir / _LOCK, f"a sweep (process {os.getpid()})")


def end(processes: Sequence[RunProcess], grace_seconds: float) -> None:
  """Ends processes, by force what is still there after some time."""
  for process in processes:
    process.send(signal.SIGTERM)
  deadline = time.monotonic() + grace_seconds
  while time.monotonic() < deadline and any(process.code is None for process in processes):
    time.sleep(0.05)
  for process in processes:
    process.send(signal.SIGKILL)


@contextlib.contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
  """What is started in the block runs on these cores alone, from its first instruction on."""
  if not cores:
    yield
    return
  own = usable_cores()
  os.sched_setaffinity(0, cores)
  try:
    yield
  finally:
    os.sched_setaffinity(0, own)
