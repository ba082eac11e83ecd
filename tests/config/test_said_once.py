"""Which errors of libraries are dropped from the logs."""

import logging
import sys
import threading
import types

import pytest
from absl import logging as absl_logging

from apo_jax.config.said_once import say_errors_once


@pytest.fixture
def written():
  """The messages that absl's logger writes while the test runs, with errors said once."""
  logger, asyncio = logging.getLogger("absl"), logging.getLogger("asyncio")
  filters, level, messages = list(logger.filters), asyncio.level, []
  report = sys.unraisablehook

  class Kept(logging.Handler):
    def emit(self, record):
      messages.append(record.getMessage())

  handler = Kept()
  logger.addHandler(handler)
  say_errors_once()
  say_errors_once()
  yield messages
  logger.removeHandler(handler)
  logger.filters[:] = filters
  asyncio.setLevel(level)
  sys.unraisablehook = report


def log_from(path: str, message: str, *, with_error: bool) -> None:
  """Logs as code in a file of that path does."""
  error = "logging.exception" if with_error else "logging.error"
  code = f"try:\n  1 / 0\nexcept ZeroDivisionError:\n  {error}({message!r})\n"
  exec(compile(code, path, "exec"), {"logging": absl_logging})


def test_tracebacks_of_what_orbax_raises_are_dropped_and_all_else_stays(written):
  log_from("/site-packages/orbax/checkpoint/futures.py", "raised too", with_error=True)
  log_from("/site-packages/orbax/checkpoint/futures.py", "a sentence", with_error=False)
  log_from("/site-packages/other/futures.py", "another's", with_error=True)
  assert written == ["a sentence", "another's"]
  assert not logging.getLogger("asyncio").isEnabledFor(logging.ERROR)
  assert sum(type(one).__name__ == "_Filter" for one in logging.getLogger("absl").filters) == 1


def test_another_thread_s_closed_loop_alone_is_not_reported(monkeypatch):
  reported = []
  monkeypatch.setattr(sys, "unraisablehook", lambda one: reported.append(str(one.exc_value)))
  monkeypatch.setattr(logging.getLogger("absl"), "filters", [])
  level = logging.getLogger("asyncio").level
  say_errors_once()
  logging.getLogger("asyncio").setLevel(level)

  def report(text: str) -> None:
    sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(text)))

  def report_both() -> None:
    report("Event loop is closed")
    report("another's")

  thread = threading.Thread(target=report_both)
  thread.start()
  thread.join()
  report("Event loop is closed")
  assert reported == ["another's", "Event loop is closed"]
