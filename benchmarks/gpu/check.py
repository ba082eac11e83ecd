"""The check of the project on a GPU: stages in order, until they are done or time is up.

    benchmarks/gpu/run.sh [--stages=a,b] [--seconds=480] [--output=DIR] [--smollm2=DIR]
    benchmarks/gpu/run.sh --platform=cpu --tiny

README.md beside this file says what each stage shows.
"""

import argparse
import dataclasses
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu import table
from benchmarks.gpu.entries import ROOT, ROUND_STAGES, STAGES, Entry, Settings, entries
from benchmarks.gpu.processes import Process, ended

# With less left than this, nothing that is worth it can be done.
LEAST_SECONDS = 8.0
# Limits are for a machine with a GPU; what checks the check is a CPU that others use, too.
SLOWER = 4
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "OutOfMemory")
_DONE = re.compile(rf"^round 1 ({'|'.join(ROUND_STAGES)}): \S+ \w+ in ([\d.]+) s", re.M)
# JAX's pool. The rest is for CUDA's own context and libraries' workspaces.
MEMORY_FRACTION = "0.92"


def main(arguments: list[str]) -> int:
  """Runs the check; returns the exit code: 1 where a line of the table failed."""
  options = _parser().parse_args(arguments)
  stages = options.stages.split(",")
  unknown = [stage for stage in stages if stage not in STAGES]
  if unknown:
    return _refuse(f"--stages={options.stages}: {unknown[0]!r} is none of {', '.join(STAGES)}.")
  if options.seconds <= 0:
    return _refuse(f"--seconds={options.seconds:g}: it must be greater than 0.")
  if options.smollm2 and not Path(options.smollm2).is_dir():
    return _refuse(f"--smollm2={options.smollm2}: there is no such folder.")
  scratch = Path(tempfile.gettempdir()) / "apo_jax_gpu"
  for old in scratch.glob("process_*"):
    shutil.rmtree(old)
  settings = Settings(
    tiny=options.tiny,
    torch_python=options.torch_python or sys.executable,
    scratch=scratch,
    smollm2=str(Path(options.smollm2).absolute()) if options.smollm2 else "",
  )
  record = Record(Path(options.output), scratch, time.monotonic() + options.seconds)
  for stage in stages:
    _play(stage, settings, record, _environment(options.platform, scratch))
  print(f"\n{record.text()}\nWritten to {record.output}.")
  return int(any(row["state"] in ("failed", "timed out") for row in record.rows))


def _play(stage: str, settings: Settings, record: "Record", environment: Mapping[str, str]) -> None:
  waiting = entries(stage, settings)
  if not waiting:
    record.skip(stage, "a round on real text", "--smollm2 names no folder of the weights' parts")
  ahead: Process | None = None
  while waiting:
    entry, *waiting = waiting
    left = record.seconds_left()
    if left < LEAST_SECONDS:
      record.skip(entry.stage, entry.name, "no time was left")
      continue
    if entry.run_dir:
      shutil.rmtree(entry.run_dir, ignore_errors=True)
    with ended(ahead or record.process(entry, environment)) as process:
      ahead = record.process(waiting[0], environment) if waiting else None
      row = process.run(min(entry.seconds * (SLOWER if settings.tiny else 1), left))
    if entry.run_dir:
      row["evaluation"] = _evaluation(Path(entry.run_dir))
      row["phases"] = phases(process.log.read_text(errors="replace"))
    record.add(row)
    if row["state"] == "failed" and entry.smaller and _lacked_memory(row):
      if ahead is not None:
        ahead.end()
      waiting, ahead = [entry.smaller, *waiting], None
  if ahead is not None:
    ahead.end()


@dataclasses.dataclass
class Record:
  """What has been found, on disk behind every line.

  Attributes:
    output: the folder of results.json and table.txt.
    scratch: where processes have their files.
    deadline: by `time.monotonic`.
    rows: the table's lines.
  """

  output: Path
  scratch: Path
  deadline: float
  rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  _started: int = 0

  def seconds_left(self) -> float:
    """Until the check has to end."""
    return self.deadline - time.monotonic()

  def process(self, entry: Entry, environment: Mapping[str, str]) -> Process:
    """A new process for an entry."""
    self._started += 1
    return Process(entry, self.scratch / f"process_{self._started:02}", environment)

  def skip(self, stage: str, name: str, why: str) -> None:
    """Adds a line for what is not run."""
    self.add({"stage": stage, "name": name, "state": "skipped", "note": why})

  def add(self, row: dict[str, Any]) -> None:
    """Adds a line and writes all."""
    self.rows.append(row)
    self.output.mkdir(parents=True, exist_ok=True)
    (self.output / "results.json").write_text(json.dumps(self.rows, indent=1) + "\n")
    (self.output / "table.txt").write_text(self.text())
    median = f", {row['median']:.4f} s" if "median" in row else ""
    print(
      f"[{self.seconds_left():4.0f} s left] {row['stage']} {row['name']}: {row['state']}{median}"
      f" {row.get('note', '')[:200]}",
      flush=True,
    )

  def text(self) -> str:
    """The table."""
    return table.text(self.rows, self._limits())

  def _limits(self) -> dict[str, float]:
    """The best of what libraries reached, also in an earlier run on this machine."""
    kept = self.scratch / "limits.json"
    found = [row["limits"] for row in self.rows if "limits" in row]
    if not found:
      return json.loads(kept.read_text()) if kept.exists() else {}
    best = {name: max(one[name] for one in found) for name in ("flops", "bandwidth")}
    self.scratch.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(best))
    return best


def _environment(platform: str, scratch: Path) -> dict[str, str]:
  paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
  environment = dict(os.environ) | {
    "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
    "PYTHONUNBUFFERED": "1",
    "HF_HOME": str(scratch / "hugging_face"),
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    # The CPU is there for what a test compares with.
    "JAX_PLATFORMS": "cpu" if platform == "cpu" else "cuda,cpu",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": MEMORY_FRACTION,
    "JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled"),
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
  }
  if platform == "cpu":
    environment["CUDA_VISIBLE_DEVICES"] = ""  # PyTorch, too
  return environment


def phases(log: str) -> dict[str, float]:
  """Seconds of round 1's five stages, of those that a game's log says are done."""
  return {name: float(seconds) for name, seconds in _DONE.findall(log)}


def _evaluation(run_dir: Path) -> dict[str, Any]:
  """The last round's, empty where the game came to none."""
  files = sorted(run_dir.glob("rounds/*/evaluation.json"))
  return json.loads(files[-1].read_text()) if files else {}


def _lacked_memory(row: Mapping[str, Any]) -> bool:
  said = " ".join([row.get("note", ""), *row.get("said", [])])
  return any(sign in said for sign in OUT_OF_MEMORY)


def _refuse(sentence: str) -> int:
  print(sentence, file=sys.stderr)
  return 1


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog="benchmarks/gpu/run.sh", allow_abbrev=False)
  parser.add_argument("--stages", default=",".join(STAGES), help="which, in this order")
  parser.add_argument("--seconds", type=float, default=480.0, help="after these it ends")
  parser.add_argument("--output", default="runs/gpu", help="the folder of the results")
  parser.add_argument("--platform", choices=("gpu", "cpu"), default="gpu", help="where it runs")
  parser.add_argument("--tiny", action="store_true", help="shapes that a CPU computes in no time")
  parser.add_argument("--smollm2", default="", help="the folder of SmolLM2's parts and dialogues")
  parser.add_argument("--torch_python", default="", help="the peers' Python; by default this one")
  return parser


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
