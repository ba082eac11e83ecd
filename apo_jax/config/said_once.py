"""What libraries log of an error that they raise as well is dropped: commands say it, once."""

import logging
import pathlib
import sys
import threading

# Orbax saves and loads in threads and tasks; what fails there reaches whoever waits for them.
_RAISES_TOO = "orbax"


def say_errors_once() -> None:
  """From now on tracebacks that come as errors anyway are not in the logs too."""
  logger = logging.getLogger("absl")
  if any(isinstance(one, _Filter) for one in logger.filters):
    return
  logger.addFilter(_Filter())
  # A task whose error another task has raised first is told of when it is collected.
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  report = sys.unraisablehook

  def report_others(unraisable: "sys.UnraisableHookArgs") -> None:
    if not is_said_elsewhere(unraisable.exc_value):
      report(unraisable)

  sys.unraisablehook = report_others


def is_said_elsewhere(error: BaseException | None) -> bool:
  """Whether what Python reports, as nobody is there to catch it, is of a save that has failed.

  When one of several writes has failed, the event loop that waits for them is closed, and the
  others' threads of TensorStore, which report to it, find it so.
  """
  is_main = threading.current_thread() is threading.main_thread()
  return not is_main and str(error) == "Event loop is closed"


class _Filter(logging.Filter):
  """Lets pass all but the tracebacks of `_RAISES_TOO`."""

  def filter(self, record: logging.LogRecord) -> bool:
    """Whether the record is written."""
    return not record.exc_info or _RAISES_TOO not in pathlib.Path(record.pathname).parts
