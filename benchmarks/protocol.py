"""How a benchmark talks to its contestants: lines of JSON over a child's stdin and stdout.

A contestant is a process of its own virtual environment. It lives as long as the benchmark, answers
one request at a time and waits between them, so that nothing runs beside a timed run. First it is
given its job; it answers with its facts once it is built. After that a request is a name.

Nothing is imported here but Python's own modules: every contestant imports this.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# A child that is told to end has this many seconds to do so.
END_SECONDS = 60


class ContestantError(RuntimeError):
  """A contestant ended where it should have answered."""


class Server:
  """The contestant's end: its job, and answers to requests.

  Answers alone are written to what was stdout; what libraries print goes to stderr.

  Attributes:
    job: what to build, as the benchmark gave it.
    handlers: what answers a request of that name.
  """

  def __init__(self) -> None:
    self._answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    self.job: dict[str, Any] = json.loads(sys.stdin.readline())
    self.handlers: dict[str, Callable[[], Any]] = {}

  def answer(self, value: Any) -> None:
    """Answers the job or a request."""
    print(json.dumps(value), file=self._answers, flush=True)

  def serve(self, until: str = "") -> None:
    """Answers requests until one called `until` comes, which is left for the caller to answer.

    So a library's own training loop can be a contestant: whatever it calls between two steps waits
    here for the next.

    Raises:
      SystemExit: stdin ended, and with it the benchmark.
    """
    for line in iter(sys.stdin.readline, ""):
      name = json.loads(line)
      if name == until:
        return
      self.answer(self.handlers[name]())
    raise SystemExit


class Contestant:
  """The benchmark's end of a contestant.

  Attributes:
    name: in tables.
    facts: what it said once it was built.
  """

  def __init__(
    self, name: str, python: str, module: str, job: Mapping[str, Any], *, scratch: Path
  ) -> None:
    """Starts `python -m module` and waits until it is built.

    Raises:
      ContestantError: it ended instead.
    """
    self.name = name
    self._log = scratch / f"{name}.log".replace(" ", "_")
    with self._log.open("w") as log:
      self._process = subprocess.Popen(
        [python, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        cwd=ROOT,
        env=_environment(scratch),
      )
    self.facts = self._say(job)

  def ask(self, request: str) -> Any:
    """The answer to a request.

    Raises:
      ContestantError: it ended instead.
    """
    return self._say(request)

  def close(self) -> None:
    """Lets the process end, or ends it where it does not."""
    with contextlib.suppress(BrokenPipeError):  # it has ended, with a request unread
      self._process.stdin.close()
    try:
      self._process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._process.stdout.close()

  def _say(self, message: Any) -> Any:
    try:
      print(json.dumps(message), file=self._process.stdin, flush=True)
      line = self._process.stdout.readline()
    except BrokenPipeError:
      line = ""
    if not line:
      said = self._log.read_text().splitlines()[-30:]
      raise ContestantError("\n".join([f"{self.name} ended; the last that it said:", *said]))
    return json.loads(line)


def _environment(scratch: Path) -> dict[str, str]:
  """Of a contestant: this checkout, nothing from the network, no earlier cache, large pages."""
  kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
  return kept | {
    "PYTHONPATH": str(ROOT),
    "HF_HOME": str(scratch / "hugging_face"),
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Memory that a step takes anew comes in large pages: else faults are a fifth of its time.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    # JAX would take most of an accelerator's memory at once, and leave none to the others.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
  }
