"""Signals that ask a run to end: SIGTERM, as a machine gets it that is taken away, and Ctrl-C.

What a run is about to lose decides how it ends. Updates are worth a checkpoint: while they are
made, the signal is noted, and the loop ends when it has saved. Everything else is made again by the
next start in any case, and ends at once. A second signal ends the process without more.

With several processes a signal to one asks all, and they save behind one update: `watch.py` passes
on what is noted here, and brings what was decided (`notes.py`).
"""

import contextlib
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

from jax.experimental import multihost_utils

from apo_jax.devices.notes import SAVING

# By then whatever ignored the exception has ended.
_SECONDS_UNTIL_SENT_AGAIN = 0.2

# What sysexits.h calls a temporary failure: the same command goes on.
TRY_AGAIN = 75

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A compiler or a device may keep the main thread for minutes, and with it Python's handlers.
_SECONDS_FOR_THE_MAIN_THREAD = 10.0


class Interrupted(BaseException):
  """The run was asked to end, and has saved what it had to.

  No Exception, as KeyboardInterrupt is none: it may be raised anywhere, also where whatever goes
  wrong with a file means that the file is damaged.

  Attributes:
    code: the process's exit code: 75 for SIGTERM, 130 for Ctrl-C, as shells have it.
  """

  def __init__(self, number: int) -> None:
    name = signal.Signals(number).name
    super().__init__(f"Ended by {name}; what is finished is kept, and the same command goes on.")
    self.code = 128 + number if number == signal.SIGINT else TRY_AGAIN


class _State:
  changed = threading.Condition()
  handled = False  # the main thread has seen a signal
  asked: int | None = None  # so has this process, or another one
  several = False  # processes, whose watch decides
  deferring = False
  step: int | None = None  # the last update that `stops_at` was asked of
  stands_at: int | None = None  # the update it stands still behind, until all have decided
  save_at: int | None = None  # the update that was decided
  saving = False


@contextlib.contextmanager
def listening() -> Iterator[None]:
  """Turns both signals into `Interrupted` while the block runs; for the main thread alone."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = {number: signal.signal(number, _handle) for number in _SIGNALS}
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  before_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  threading.Thread(target=_end_what_is_stuck, args=(reading,), daemon=True).start()
  try:
    with _sent_again_where_ignored():
      yield
  finally:
    signal.set_wakeup_fd(before_fd)
    os.close(writing)
    for number, handler in before.items():
      signal.signal(number, handler)
    _State.asked, _State.handled = None, False


def listen_for_all(wake: Callable[[], None]) -> None:
  """Notes both signals from here on, in a run of several processes; `wake` is told of each.

  Called behind `jax.distributed.initialize`, whose own handler of SIGTERM this takes the place of:
  that one keeps a process alive that makes no updates.
  """
  _State.several = True
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  for number in _SIGNALS:
    signal.signal(number, _handle)
  signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  threading.Thread(target=_tell_all, args=(reading, wake), daemon=True).start()


@contextlib.contextmanager
def _sent_again_where_ignored() -> Iterator[None]:
  """Sends a signal again that came where Python goes on after any exception.

  The garbage collector's callbacks, of which JAX has one, and finalizers are such places: what is
  raised there is reported to `sys.unraisablehook`, and the run would have gone on.
  """
  before = sys.unraisablehook

  def report(unraisable: Any) -> None:
    if not isinstance(unraisable.exc_value, Interrupted):
      before(unraisable)
    elif (number := _State.asked) is not None:
      _State.asked, _State.handled = None, False  # or it would be the second one
      reported = threading.Event()
      threading.Thread(target=_send_again, args=(number, reported), daemon=True).start()
      reported.set()

  sys.unraisablehook = report
  try:
    yield
  finally:
    sys.unraisablehook = before


def _send_again(number: int, reported: threading.Event) -> None:
  reported.wait()  # in the report it would be ignored again
  time.sleep(_SECONDS_UNTIL_SENT_AGAIN)
  signal.pthread_kill(threading.main_thread().ident, number)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """While the block runs, a signal is noted alone (`stops_at`, `check`).

  Raises:
    Interrupted: behind the block, where one was noted.
  """
  _State.step = _State.stands_at = None
  _State.deferring = True
  try:
    yield
  finally:
    with _State.changed:
      _State.saving = _State.several and _State.asked is not None
      _State.deferring = False
  check()


def stops_at(step: int) -> bool:
  """Whether the run ends behind this update, and has to save; the same in all processes.

  Every process asks this behind each update of a phase but the last. Of several, those that know of
  a signal wait here until it is known what all do.

  JAX's own notice of a machine that will be taken away is heard too, where one comes by another way
  than a signal (`jax.experimental.multihost_utils.reached_preemption_sync_point`).

  Args:
    step: the update that was made.
  """
  noticed = _jax_was_noticed(step)
  with _State.changed:
    if noticed:
      _State.asked = _State.asked or signal.SIGTERM
    if noticed or not _State.several:
      _State.saving = _State.asked is not None
      return _State.saving
    while _State.asked is not None and _State.save_at is None:
      if _State.stands_at is None:
        _State.stands_at = step - 1
      _State.changed.wait(timeout=1.0)  # so that a second signal is handled
    _State.step = step
    _State.saving = _State.save_at is not None and step >= _State.save_at
    return _State.saving


def check() -> None:
  """Ends what runs where a signal was noted; of several processes where all save for it.

  Raises:
    Interrupted: there was one.
  """
  if _State.asked is not None and (_State.saving or not _State.several):
    raise Interrupted(_State.asked)


def asked() -> int | None:
  """The signal that was noted."""
  return _State.asked


def position() -> int | str | None:
  """Where this process stands, as the notes have it; with a signal noted it stays there."""
  with _State.changed:
    if _State.saving:
      return SAVING
    if not _State.deferring:
      return None
    if _State.asked is not None and _State.stands_at is None:
      _State.stands_at = _State.step
    return _State.stands_at


def decided(asked: int | None, save_at: int | None) -> None:
  """Notes what all processes were told."""
  with _State.changed:
    _State.asked = _State.asked or asked
    _State.save_at = _State.save_at or save_at
    _State.changed.notify_all()


def say_and_exit(number: int) -> None:
  """Ends this process, from whichever thread."""
  interrupted = Interrupted(number)
  print(f"apo_jax: {interrupted}", file=sys.stderr, flush=True)
  os._exit(interrupted.code)


def _jax_was_noticed(step: int) -> bool:
  try:
    return multihost_utils.reached_preemption_sync_point(step)
  except RuntimeError:  # the user has switched its service off
    return False


def _handle(number: int, frame: types.FrameType | None) -> None:
  if _State.handled:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
  _State.handled = True
  _State.asked = _State.asked or number
  if not _State.deferring and not _State.several:
    raise Interrupted(number)


def _signals(reading: int) -> Iterator[int]:
  """The signals that are written to a pipe, until it is closed."""
  while said := os.read(reading, 1):
    if said[0] in _SIGNALS:
      yield said[0]
  os.close(reading)


def _end_what_is_stuck(reading: int) -> None:
  for number in _signals(reading):
    time.sleep(_SECONDS_FOR_THE_MAIN_THREAD)
    if signal.getsignal(number) == _handle and not _State.handled and not _State.deferring:
      say_and_exit(number)


def _tell_all(reading: int, wake: Callable[[], None]) -> None:
  for count, number in enumerate(_signals(reading)):
    if count:
      os._exit(128 + number)
    decided(number, None)
    wake()
