"""What a branched run has from the run it comes from, copied: a run stands alone."""

import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from apo_jax.logs.files import read_json, write_bytes, write_jsonl
from apo_jax.logs.metrics import read_metrics
from apo_jax.logs.places import Place, copy_here, is_bucket, sizes_below
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.players import Player


def size_of_copy(source: RunDirectory, players: Collection[Player], round: int) -> int:
  """Bytes of all that `copy_rounds` copies, within a few percent.

  Raises:
    OSError, ValueError, KeyError: a file is gone or damaged.
  """
  roots = [source.tokenizer, *(_last_step(source, player) for player in players)]
  sizes = [size for root in roots for size in sizes_below(root).values()]
  for number in range(round + 1):
    sizes += _files_of_round(source, number).values()
  return sum(sizes) + sum(len(path.read_bytes()) for path in _small_files(source))


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
  _copy_tree(source.tokenizer, target.tokenizer)
  for number in range(round + 1):
    for path in _files_of_round(source, number):
      _copy(path, target.round(number) / path.name)
  for player in players:
    step = _last_step(source, player)
    _copy_tree(step, target.checkpoints(player.name) / step.name)
  lines = [line for line in read_metrics(source.path) if line["round"] <= round]
  write_jsonl(target.metrics, lines)


def _small_files(source: RunDirectory) -> Iterator[Place]:
  for path in (source.data, source.origins, source.preview):
    if path.exists():
      yield path


def _files_of_round(source: RunDirectory, round: int) -> dict[Place, int]:
  """All but what was half-written, each with its bytes."""
  place = source.round(round)
  return {
    path: size
    for path, size in sizes_below(place).items()
    if path.parent == place and not path.name.startswith(".")
  }


def _last_step(source: RunDirectory, player: Player) -> Place:
  """The checkpoint that a player's phase ended with."""
  updates = read_json(source.round(player.round) / f"{player.phase}.json")["updates"]
  return source.checkpoints(player.name) / str(updates)


def _copy_tree(source: Place, target: Path) -> None:
  if not is_bucket(source):
    shutil.copytree(source, target, copy_function=_copy)
    return
  copy_here(source, target)
  for path in sizes_below(target):
    _sync(path)


def _copy(source: Place | str, target: Path | str) -> None:
  """Copies a file onto the disk."""
  if is_bucket(source):
    write_bytes(Path(target), source.read_bytes())
    return
  Path(target).parent.mkdir(parents=True, exist_ok=True)
  shutil.copyfile(source, target)
  _sync(target)


def _sync(path: Path | str) -> None:
  """Waits until a file is on the disk."""
  with open(path, "rb") as file:
    os.fsync(file.fileno())
