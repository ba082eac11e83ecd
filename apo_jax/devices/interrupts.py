"""Signals that ask a run to end: SIGTERM, as a machine gets it that is taken away, and Ctrl-C.

What a run is about to lose decides how it ends. Updates are worth a checkpoint: while they are
made, the signal is noted, and the loop ends when it has saved. Everything else is made again by the
next start in any case, and ends at once. A second signal ends the process without more.

With several processes JAX listens itself (jax.distributed), and nothing is installed here.
"""

import contextlib
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

# By then whatever ignored the exception has ended.
_SECONDS_UNTIL_SENT_AGAIN = 0.01

# What sysexits.h calls a temporary failure: the same command goes on.
TRY_AGAIN = 75


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
  asked: int | None = None
  deferring = False


@contextlib.contextmanager
def listening() -> Iterator[None]:
  """Turns both signals into `Interrupted` while the block runs; for the main thread alone."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = {number: signal.signal(number, _handle) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    with _sent_again_where_ignored():
      yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
    _State.asked = None


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
      _State.asked = None  # or it would be the second one
      main = threading.main_thread().ident
      threading.Timer(_SECONDS_UNTIL_SENT_AGAIN, signal.pthread_kill, (main, number)).start()

  sys.unraisablehook = report
  try:
    yield
  finally:
    sys.unraisablehook = before


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """While the block runs, a signal is noted alone (`check`).

  Raises:
    Interrupted: behind the block, where one was noted.
  """
  _State.deferring = True
  try:
    yield
  finally:
    _State.deferring = False
  check()


def asked() -> bool:
  """Whether a signal was noted."""
  return _State.asked is not None


def check() -> None:
  """Ends what runs where a signal was noted.

  Raises:
    Interrupted: there was one.
  """
  if _State.asked is not None:
    raise Interrupted(_State.asked)


def _handle(number: int, frame: types.FrameType | None) -> None:
  if _State.asked is not None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
  _State.asked = number
  if not _State.deferring:
    raise Interrupted(number)
