"""What a branched run has from the run it comes from, copied: a run stands alone."""

import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from apo_jax.logs.files import read_json, write_jsonl
from apo_jax.logs.metrics import read_metrics
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.players import Player


def size_of_copy(source: RunDirectory, players: Collection[Player], round: int) -> int:
  """Bytes of all that `copy_rounds` copies, within a few percent.

  Raises:
    OSError, ValueError, KeyError: a file is gone or damaged.
  """
  roots = [source.tokenizer, *(_last_step(source, player) for player in players)]
  found = [path for root in roots for path in root.rglob("*")]
  for number in range(round + 1):
    found += _files_of_round(source, number)
  return sum(path.stat().st_size for path in [*found, *_small_files(source)] if path.is_file())


def copy_rounds(
  source: RunDirectory, target: RunDirectory, players: Collection[Player], round: int
) -> None:
  """Copies rounds 0 to `round`, their lines of metrics and the last checkpoints of players.

  All of it is on the disk when this returns. The config is not copied.

  Raises:
    OSError, ValueError, KeyError: a file is gone or damaged, or cannot be written.
  """
  for path in _small_files(source):
    _copy(path, target.path / path.name)
  shutil.copytree(source.tokenizer, target.tokenizer, copy_function=_copy)
  for number in range(round + 1):
    for path in _files_of_round(source, number):
      _copy(path, target.round(number) / path.name)
  for player in players:
    step = _last_step(source, player)
    place = target.checkpoints(player.name) / step.name
    shutil.copytree(step, place, copy_function=_copy)
  lines = [line for line in read_metrics(source.path) if line["round"] <= round]
  write_jsonl(target.metrics, lines)


def _small_files(source: RunDirectory) -> Iterator[Path]:
  for path in (source.data, source.origins, source.preview):
    if path.exists():
      yield path


def _files_of_round(source: RunDirectory, round: int) -> list[Path]:
  """All but what was half-written."""
  place = source.round(round)
  return [path for path in place.iterdir() if path.is_file() and not path.name.startswith(".")]


def _last_step(source: RunDirectory, player: Player) -> Path:
  """The checkpoint that a player's phase ended with."""
  updates = read_json(source.round(player.round) / f"{player.phase}.json")["updates"]
  return source.checkpoints(player.name) / str(updates)


def _copy(source: Path | str, target: Path | str) -> None:
  """Copies a file onto the disk."""
  Path(target).parent.mkdir(parents=True, exist_ok=True)
  shutil.copyfile(source, target)
  with open(target, "rb") as file:
    os.fsync(file.fileno())
