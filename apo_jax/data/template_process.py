"""The process that renders chat templates: JSON lines in, JSON lines out.

A template is a stranger's program. Its sandbox keeps it from files, but not from looping for ever
or from making a text of a terabyte, in one instruction that nothing in a thread can end. Here the
operating system does: it ends a process that takes more than its time or memory.

This file is run by its path and imports nothing of the package.
"""

import contextlib
import json
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

SECONDS = 3.0  # of processor time for one dialogue; real templates take less than a thousandth
TOO_LONG = signal.SIGPROF  # what ends the process then
MEMORY = 2**30  # bytes of address space, of which Python and its libraries take a quarter


def serve(render: Callable[..., tuple[list[str], Any]]) -> None:
  """Answers every line, of several dialogues: with their texts, or with why there are none."""
  _write("ready")
  for line in sys.stdin.buffer:
    request = json.loads(line)
    dialogues = request.pop("dialogues")
    most, seconds = request.pop("most"), request.pop("seconds")
    _write([_rendered(render, one, most, seconds, request) for one in dialogues])


def _rendered(
  render: Callable[..., tuple[list[str], Any]],
  dialogue: list[dict[str, str]],
  most: int,
  seconds: float,
  variables: dict[str, Any],
) -> dict[str, Any]:
  signal.setitimer(signal.ITIMER_PROF, seconds)  # whose signal ends the process
  try:
    ((text,), _) = render([dialogue], **variables)
    return {"text": text} if len(text) <= most else {"characters": len(text)}
  except MemoryError:
    return {"memory": True}
  except Exception as error:  # a template fails in every way in which a program can
    return {"error": f"{error}"[:1000] or type(error).__name__}
  finally:
    signal.setitimer(signal.ITIMER_PROF, 0)


def _write(answer: Any) -> None:
  sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
  sys.stdout.buffer.flush()


if __name__ == "__main__":
  from transformers.utils.chat_template_utils import render_jinja_template

  with contextlib.suppress(ValueError, OSError):  # a lower limit stands, or the system has none
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
  serve(render_jinja_template)
