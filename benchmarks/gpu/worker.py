"""The process behind one line of the check: imports, waits for its turn, measures.

    python -m benchmarks.gpu.worker JOB.json EVENTS.jsonl

What it finds it writes at once, one JSON object a line, so that what is known is kept however it
ends. It touches no device before a line comes on stdin: it is started while the one before it runs.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Runs that count, at most: fewer where they take longer than this together.
REPEATS, SECONDS = 10, 12.0
VERSIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pyarrow", "ml_dtypes")
VERSIONS += (
  "transformers",
  "tokenizers",
  "datasets",
  "grain",
  "torch",
  "trl",
  "accelerate",
  "peft",
)

Run = Callable[[], dict[str, Any]]
Say = Callable[..., None]


def main(job_file: str, events_file: str) -> int:
  """Does the job; returns the exit code."""
  with open(events_file, "a") as events:

    def say(**event: Any) -> None:
      print(json.dumps(event), file=events, flush=True)

    try:
      job = json.loads(Path(job_file).read_text())
      missing = [name for name in _needed(job) if importlib.util.find_spec(name) is None]
      if missing:
        say(state="skipped", note=f"{missing[0]} is not installed")
        return 0
      measure = {"jax": _prepare_jax, "torch": _prepare_torch}[job["library"]](job)
      if not sys.stdin.readline():
        return 1  # the check has ended
      began = time.perf_counter()
      measure(say)
      say(state="ok", seconds=time.perf_counter() - began)
    except Exception as error:
      traceback.print_exc()
      say(state="failed", note=_one_line(error))
      return 1
  return 0


def _needed(job: Mapping[str, Any]) -> list[str]:
  if job["library"] == "jax":
    return ["jax"]
  of_work = {"trl dpo": ["trl", "datasets"], "round": ["peft"]}
  return ["torch", "transformers", *of_work.get(job["work"], [])]


def _prepare_jax(job: Mapping[str, Any]) -> Callable[[Say], None]:
  """Imports all that our contestants need."""
  import jax

  from benchmarks import resident
  from benchmarks.contestants import jax_limits, ours
  from benchmarks.contestants.our_model import mesh
  from benchmarks.gpu import costs, kernels

  def measure(say: Say) -> None:
    device = jax.devices()[0]
    if job["work"] == "limits":
      say(device=device.device_kind, platform=device.platform, versions=_versions())
      say(smi=_nvidia_smi(), memory_stats=device.memory_stats(), **costs.peaks(device.device_kind))
      say(limits=jax_limits.limits(job["model"]["dtype"]))
      return
    held = resident.held_bytes()
    # What the work is does not depend on whether the device can do it.
    say(device=device.device_kind, **costs.of(job), **costs.peaks(device.device_kind))
    with jax.set_mesh(mesh()):
      run = ours.WORKS[job["work"]](job)
      say(held_bytes=jax_limits.held_bytes(device, held))
      _repeat(run, job, say)
      say(peak_bytes=jax_limits.peak_bytes(device, held))
      if job.get("profile"):
        try:
          say(kernels=kernels.profiled(run))
        except Exception as error:  # the times above stand without it
          traceback.print_exc()
          say(note=f"not profiled: {_one_line(error)}")

  return measure


def _prepare_torch(job: Mapping[str, Any]) -> Callable[[Say], None]:
  """Imports all that the peers need."""
  import torch

  from benchmarks import resident
  from benchmarks.contestants import torch_peer

  if job["work"] == "round":
    torch_round = importlib.import_module("benchmarks.contestants.torch_round")
    return lambda say: torch_round.play(job, say)
  trl_peer = None
  if job["work"] == "trl dpo":
    trl_peer = importlib.import_module("benchmarks.contestants.trl_peer")

  def measure(say: Say) -> None:
    say(device=torch_peer.device_name())
    if job["work"] == "limits":
      say(limits=torch_peer.limits(getattr(torch, job["model"]["dtype"])))
      return
    held = resident.held_bytes()
    if trl_peer is not None:
      turns = Turns(job, say)
      with contextlib.suppress(Done):
        trl_peer.dpo(turns).train()
      turns.tell()
    else:
      run = {"dpo": torch_peer.dpo, "sampling": torch_peer.sampling}[job["work"]](job)
      _repeat(run, job, say)
    say(peak_bytes=torch_peer.peak_bytes(held))

  return measure


class Done(Exception):
  """A trainer has made the steps that are wanted."""


class Turns:
  """What a trainer's steps talk to in place of `protocol.Server`: the next turn comes at once."""

  def __init__(self, job: Mapping[str, Any], say: Say):
    self.job = job
    self.answers: list[dict[str, Any]] = []
    self._say = say

  def serve(self, until: str = "") -> None:
    """Lets the next step begin.

    Raises:
      Done: there were enough.
    """
    if len(self.answers) == 2 + self.job.get("repeats", REPEATS):
      raise Done

  def answer(self, value: dict[str, Any]) -> None:
    """Takes what a step says of itself."""
    self.answers.append(value)
    self.tell()

  def tell(self) -> None:
    """Writes what is known; the first two steps do not count."""
    self._say(first=self.answers[0]["seconds"])
    _tell(self.answers[2:], self._say)


def _repeat(run: Run, job: Mapping[str, Any], say: Say) -> None:
  """A run that compiles, one that warms up, and those that count."""
  say(first=run()["seconds"])
  run()
  answers, began = [], time.perf_counter()
  while len(answers) < job.get("repeats", REPEATS):
    answers.append(run())
    _tell(answers, say)
    if time.perf_counter() - began > SECONDS:
      break


def _tell(answers: list[dict[str, Any]], say: Say) -> None:
  if answers:
    seconds = [answer["seconds"] for answer in answers]
    rest = {name: value for name, value in answers[0].items() if name != "seconds"}
    say(runs=seconds, median=statistics.median(seconds), **rest)


def _versions() -> dict[str, str]:
  found = {"python": sys.version.split()[0]}
  for name in VERSIONS:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = "missing"
  return found


def _nvidia_smi() -> str:
  fields = "name,driver_version,memory.total,clocks.max.sm,power.limit"
  try:
    return subprocess.run(
      ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
      capture_output=True,
      text=True,
      timeout=20,
    ).stdout.strip()
  except (OSError, subprocess.TimeoutExpired) as error:
    return f"nvidia-smi: {error}"


def _one_line(error: Exception) -> str:
  said = " ".join(f"{type(error).__name__}: {error}".split())
  return said[:300]


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
