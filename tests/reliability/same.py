"""Whether two finished runs of one command hold the same: bit by bit, but for times.

`differences` compares the lines of metrics.jsonl, every file of every round, every player's
parameters and optimizer state, and which files there are: what a kill leaves half-written is a
difference too.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from apo_jax.logs.files import read_json, read_jsonl
from apo_jax.logs.metrics import read_metrics
from apo_jax.logs.run_directory import CHECKSUMS, RunDirectory
from apo_jax.run.opening import read_run_config
from apo_jax.run.phase_inputs import phase_names
from apo_jax.run.records import find_damage

# What tells when or where, not what.
_TIMES = ("time", "seconds", "seconds_to_first_update")
_NOT_COMPARED = (CHECKSUMS,)  # of files with times in them; `_of_hashes` holds it against these
# Not of the game: compiled programs differ between a first start and another.
_BESIDE = ("compilation_cache",)


def differences(whole: Path, other: Path, leave_out: str = "") -> list[str]:
  """What is not the same, each as a line; none where all is.

  Args:
    whole: a finished run's directory.
    other: another's, of the same command.
    leave_out: a player whose checkpoints are not compared.
  """
  return [
    *_of_files(whole, other, leave_out),
    *_of_rows("metrics.jsonl", read_metrics(whole), read_metrics(other)),
    *_of_rounds(whole, other),
    *_of_hashes(other),
    *_of_players(whole, other, leave_out),
  ]


def files(run_dir: Path) -> set[str]:
  """The names of a run's files, a checkpoint's step as one: Orbax names what is in it at random."""
  found = set()
  for path in run_dir.rglob("*"):
    parts = path.relative_to(run_dir).parts
    if path.is_dir() or parts[0] in _BESIDE:
      continue
    found.add("/".join(parts[:3] if parts[0] == "checkpoints" else parts))
  return found


def bits(tree: Any) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
  """The type, shape and bits of every array of a tree, by its path."""
  named, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {jax.tree_util.keystr(path): _bits(array) for path, array in named}


def _of_files(whole: Path, other: Path, leave_out: str) -> Iterator[str]:
  there, found = (
    {name for name in files(run) if name.split("/")[:2] != ["checkpoints", leave_out]}
    for run in (whole, other)
  )
  yield from (f"{name} is missing" for name in sorted(there - found))
  yield from (f"{name} is left over" for name in sorted(found - there))


def _of_rounds(whole: Path, other: Path) -> Iterator[str]:
  for path in sorted((whole / "rounds").rglob("*")):
    name = path.relative_to(whole)
    twin = other / name
    if path.is_dir() or not twin.exists():
      continue  # what is missing is told of already
    if path.suffix == ".jsonl":
      yield from _of_rows(str(name), read_jsonl(path), read_jsonl(twin))
    elif path.name not in _NOT_COMPARED and _plain(read_json(path)) != _plain(read_json(twin)):
      yield f"{name} differs"


def _of_hashes(run_dir: Path) -> Iterator[str]:
  """The hashes that finished phases have left must be those of what they have left."""
  directory = RunDirectory(run_dir)
  listed = phase_names(read_run_config(directory))
  yield from (one.sentence for one in find_damage(directory, listed, None))


def _of_rows(name: str, rows: list[dict], others: list[dict]) -> Iterator[str]:
  if len(rows) != len(others):
    yield f"{name} has {len(others)} rows instead of {len(rows)}"
    return
  for number, (row, other) in enumerate(zip(rows, others, strict=True), start=1):
    if _plain(row) != _plain(other):
      yield f"{name}, line {number}, differs"


def _plain(value: Any) -> str:
  """The value without times, as JSON, which tells -0.0 from 0.0."""
  kept = value
  if isinstance(value, dict):
    kept = {key: item for key, item in value.items() if key not in _TIMES}
  return json.dumps(kept, sort_keys=True)


def _of_players(whole: Path, other: Path, leave_out: str) -> Iterator[str]:
  for directory in sorted((whole / "checkpoints").iterdir()):
    name, twin = directory.name, RunDirectory(other).checkpoints(directory.name)
    steps = sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())
    for step in steps:
      if name == leave_out or not (twin / str(step)).exists():
        continue
      written = bits(_arrays(directory, step))
      try:
        found = bits(_arrays(twin, step))
      except Exception as error:  # whatever a damaged file comes as
        yield f"{name}, step {step}, cannot be read: {str(error)[:200]}"
        continue
      if found.keys() != written.keys():
        yield f"{name}, step {step}, has other arrays"
      for path in found.keys() & written.keys():
        if found[path] != written[path]:
          yield f"{name}, step {step}, differs in {path}"


def _arrays(directory: Path, step: int) -> Any:
  """Parameters and optimizer state of a step, as they lie there."""
  with ocp.training.Checkpointer(directory.absolute()) as checkpointer:
    return checkpointer.load_checkpointables(step, {"parameters": None, "optimizer": None})


def _bits(array: Any) -> tuple[str, tuple[int, ...], bytes]:
  plain = np.asarray(array)
  return str(plain.dtype), plain.shape, plain.tobytes()
