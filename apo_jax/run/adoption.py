"""A finished phase of one run, taken over by another instead of being played again.

Files are hard links where the file system has them, and copies elsewhere. Nothing in a run
directory is written in place, so that a link keeps what it was made of: score.json's phase, which
rewrites the samples, leaves those that another directory holds as they were.
"""

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from apo_jax.logs import files
from apo_jax.logs.metrics import MetricsWriter, read_metrics
from apo_jax.logs.run_directory import (
  ADOPTED,
  EVALUATION,
  GOLDEN_SAMPLES,
  JUDGE,
  JUDGEMENTS,
  POLICY_SAMPLES,
  REPLAYED_SAMPLES,
  SCORE,
  TEST_SAMPLES,
  RunDirectory,
)
from apo_jax.run.phase_inputs import PhaseName

# Files that a phase writes beside its result, where it does: score.json's phase adds rewards to
# samples, of which only the game has golden ones.
BESIDE = {
  "testing_reward.json": (JUDGE,),
  SCORE: (POLICY_SAMPLES, REPLAYED_SAMPLES, GOLDEN_SAMPLES),
  EVALUATION: (TEST_SAMPLES, JUDGEMENTS),
}


def adopt(
  source: RunDirectory, target: RunDirectory, name: PhaseName, metrics: MetricsWriter, origin: str
) -> None:
  """Makes a finished phase of another run this run's, as if it had been played here.

  The caller has found that both runs' phases read the same (`phase_inputs`).

  Args:
    source: the other run, or a folder that holds the phase as a run directory does. Where a later
      phase has rewritten its files (samples, by their scores), these are what is taken.
    target: this run.
    name: the phase.
    metrics: this run's, which get the phase's rows, with new times.
    origin: the run that played it; kept in the round's adopted.json.
  """
  metrics.resume(round=name.round, phase=name.stem, step=0)
  for row in phase_metrics(source, name):
    values = {key: value for key, value in row.items() if key not in MetricsWriter.PLACE}
    metrics.write(values, round=name.round, phase=name.stem, step=row["step"])
  metrics.sync()
  place = target.round(name.round) / ADOPTED
  files.write_json(place, {**adopted_phases(target, name.round), name.result: origin})
  copy_phase(source, target, name)


def adopted_phases(directory: RunDirectory, round: int) -> dict[str, str]:
  """Which phases of a round were taken from another run, and from which."""
  place = directory.round(round) / ADOPTED
  return files.read_json(place) if place.exists() else {}


def phase_metrics(source: RunDirectory, name: PhaseName) -> list[dict[str, Any]]:
  """The rows of metrics.jsonl that are a phase's."""
  return [
    row
    for row in read_metrics(source.path)
    if (row["round"], row["phase"]) == (name.round, name.stem)
  ]


def copy_phase(source: RunDirectory, target: RunDirectory, name: PhaseName) -> None:
  """Links or copies the files of a finished phase and its player's newest checkpoint.

  The result comes last, so that a phase counts as finished when all of it is there.
  """
  origin, place = source.round(name.round), target.round(name.round)
  place.mkdir(parents=True, exist_ok=True)
  for beside in BESIDE.get(name.result, ()):
    if (origin / beside).exists():
      _link(origin / beside, place / beside)
  if name.player and source.checkpoints(name.player.name).is_dir():
    player = name.player.name
    _link_newest(source.checkpoints(player), target.checkpoints(player))
  _link(origin / name.result, place / name.result)


def _link_newest(source: Path, target: Path) -> None:
  """Links the newest step of a training phase's checkpoints, in place of what `target` holds."""
  newest = max((step for step in source.iterdir() if step.name.isdecimal()), key=_step)
  target.parent.mkdir(parents=True, exist_ok=True)
  made = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
  shutil.copytree(newest, made / newest.name, copy_function=_link_new)
  shutil.rmtree(target, ignore_errors=True)
  os.rename(made, target)


def _step(directory: Path) -> int:
  return int(directory.name)


def _link(source: Path, target: Path) -> None:
  """Puts a file in the place of `target` at once."""
  made = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
  _link_new(source, made)
  os.replace(made, target)


def _link_new(source: Path | str, target: Path | str) -> None:
  try:
    os.link(source, target)
  except OSError:  # another file system, or one without links
    shutil.copy2(source, target)
