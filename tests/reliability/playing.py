"""The tests' tiny game as a user starts it: a command in a process of its own."""

import argparse
import dataclasses
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests import tiny

# A start of a tiny game that has not ended by then never will, however busy the machine is.
LONGEST_SECONDS = 3600


@dataclasses.dataclass(frozen=True)
class Ended:
  """How a command ended.

  Attributes:
    code: its exit code; that of a signal is negative.
    said: what it wrote to its standard output.
    complained: what it wrote to its standard error.
    seconds: how long it took.
  """

  code: int
  said: str
  complained: str
  seconds: float

  @property
  def words(self) -> str:
    """The end of both, for whoever looks for what went wrong."""
    return f"exit code {self.code}\n{self.said[-1500:]}\n{self.complained[-3000:]}"

  @property
  def has_traceback(self) -> bool:
    """Whether it ended in a way that nobody thought of."""
    return "Traceback" in self.complained or "Traceback" in self.said

  @property
  def is_refusal(self) -> bool:
    """Whether it is one sentence and the exit code of a refusal."""
    lines = [line for line in self.complained.splitlines() if line.strip()]
    return self.code == 2 and len(lines) == 1 and not self.has_traceback


class Game:
  """A tiny game, to be played in any number of directories.

  Args:
    folder: where its runs and what they compile lie.
    overrides: fields, as in `tiny.config`.
  """

  def __init__(self, folder: Path, **overrides: object):
    self.folder = folder
    self._flags = tiny.flags(**overrides)

  def command(self, run_dir: Path, *more: str) -> list[str]:
    """The command; `more` flags come behind the game's own."""
    module = [sys.executable, "-m", "apo_jax.main", *self._flags]
    cache = f"--compilation_cache={self.folder / 'compiled'}"
    return [*module, cache, f"--run_dir={run_dir}", *more]

  def start(self, run_dir: Path, *more: str) -> "Started":
    """Starts it."""
    return Started(self.command(run_dir, *more))

  def play(self, run_dir: Path, *more: str) -> Ended:
    """Starts it and waits for its end."""
    return self.start(run_dir, *more).end()

  def whole(self) -> tuple[Path, float]:
    """A run that nothing disturbed, and the seconds that it takes once all is compiled.

    Raises:
      RuntimeError: it does not end well.
    """
    for name in ("compiling", "whole"):
      result = self.play(self.folder / name)
      if result.code:
        raise RuntimeError(f"The game does not end by itself: {result.words}")
    return self.folder / "whole", result.seconds


class Started:
  """A command that runs; what it says goes to files, so that it never waits for a reader.

  Attributes:
    process: its process.
  """

  def __init__(self, command: list[str]):
    self._began = time.monotonic()
    self._files = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
    self.process = subprocess.Popen(
      command,
      cwd=tiny.ROOT,
      env=tiny.users_environment(),
      stdout=self._files[0],
      stderr=self._files[1],
    )

  def runs(self) -> bool:
    """Whether it has not ended."""
    return self.process.poll() is None

  def signal(self, number: signal.Signals, after: float = 0.0) -> bool:
    """Sends a signal so many seconds later; whether it had not ended before."""
    try:
      self.process.wait(after)
      return False
    except subprocess.TimeoutExpired:
      self.process.send_signal(number)
      return True

  def end(self) -> Ended:
    """Waits for its end.

    Raises:
      TimeoutExpired: it hangs; it is killed.
    """
    try:
      code = self.process.wait(LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
      self.process.kill()
      raise
    seconds = time.monotonic() - self._began
    texts = []
    for file in self._files:
      file.seek(0)
      texts.append(file.read())
      file.close()
    return Ended(code, *texts, seconds)


def kill_when(started: Started, is_there: Callable[[], bool]) -> bool:
  """Kills a command as soon as something is there; whether it had not ended before."""
  while started.runs():
    if is_there():
      started.signal(signal.SIGKILL)
      return True
    time.sleep(0.02)
  return False


def parser(text: str | None) -> argparse.ArgumentParser:
  """What the tools' flags have in common; `text` is a tool's docstring."""
  made = argparse.ArgumentParser(
    description=text, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument("--seed", type=int, default=0, help="of what is done at random")
  made.add_argument(
    "--folder", type=Path, default=None, help="where runs lie and stay; by default a temporary one"
  )
  return made


def folder_of(given: Path | None) -> Path:
  """The folder that a flag named, made and empty, or a new one.

  Raises:
    SystemExit: it holds something.
  """
  if given is None:
    return Path(tempfile.mkdtemp(prefix="apo_jax_reliability_"))
  given.mkdir(parents=True, exist_ok=True)
  if any(given.iterdir()):
    raise SystemExit(f"--folder is {str(given)!r}, which is not empty; give a new one.")
  return given.absolute()


def finish(folder: Path, given: Path | None, failures: Sequence[object], sentence: str) -> int:
  """Says how it went, removes a temporary folder where all went well; returns the exit code."""
  print(sentence + (f" See {folder}." if failures else ""), flush=True)
  if given is None and not failures:
    shutil.rmtree(folder)
  return int(bool(failures))
