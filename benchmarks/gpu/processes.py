"""Processes of the check: each with a time limit of its own, the next one imported ahead."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.entries import ROOT, Entry

SAID_LINES = 25  # of a process's output, kept where it fails


class Process:
  """One entry's process. A worker imports at once and waits; a command waits to be started."""

  def __init__(self, entry: Entry, folder: Path, environment: Mapping[str, str]):
    self.entry = entry
    self._environment = {**environment, **entry.environment}
    self._folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    self._events = folder / "events.jsonl"
    self.log = folder / "log.txt"  # all that it says
    self._process: subprocess.Popen[str] | None = None
    if entry.job is not None:
      job = folder / "job.json"
      job.write_text(json.dumps(entry.job))
      self._start("-m", "benchmarks.gpu.worker", str(job), str(self._events))

  def run(self, seconds: float) -> dict[str, Any]:
    """Gives it its turn and waits, for at most so long; what it found, with `state` and `wall`."""
    began = time.monotonic()
    if self._process is None:
      self._start(*self.entry.command)
    with contextlib.suppress(BrokenPipeError):  # it has failed already
      print("go", file=self._process.stdin, flush=True)
    try:
      code = self._process.wait(seconds)
    except subprocess.TimeoutExpired:
      self.end()
      code = None
    row = {"stage": self.entry.stage, "name": self.entry.name, "wall": time.monotonic() - began}
    row |= self._told()
    said = self.log.read_text(errors="replace").splitlines()[-SAID_LINES:]
    if code is None:
      row |= {"state": "timed out", "note": f"ended after {seconds:.0f} s"}
    elif self.entry.job is None:
      row |= {"state": "failed" if code else "ok", "note": next(iter(said[-1:]), "")}
    elif "state" not in row:
      row |= {"state": "failed", "note": next(iter(said[-1:]), f"ended with code {code}")}
    if row["state"] in ("failed", "timed out") or self.entry.job is None:
      row["said"] = said
    return row

  def end(self) -> None:
    """Ends it and what it started, if it still runs."""
    if self._process is not None and self._process.poll() is None:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(self._process.pid, signal.SIGKILL)
      self._process.wait()

  def _start(self, *arguments: str) -> None:
    with self.log.open("w") as log:
      self._process = subprocess.Popen(
        [self.entry.python, *arguments],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=self._environment,
        start_new_session=True,  # so that all of its children end with it
      )

  def _told(self) -> dict[str, Any]:
    """Its events, the later over the earlier."""
    told: dict[str, Any] = {}
    if self._events.exists():
      for line in self._events.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a line that a kill cut short
          told |= json.loads(line)
    return told


@contextlib.contextmanager
def ended(process: Process) -> Iterator[Process]:
  """The process, which does not outlive the block."""
  try:
    yield process
  finally:
    process.end()
