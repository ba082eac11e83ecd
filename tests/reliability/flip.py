"""Damages files of runs at random, and starts the same command again.

    python -m tests.reliability.flip --tries=80

A game is stopped behind several of its phases. Each try copies one of these directories, or that of
the finished game, and in one of its files flips a bit, cuts the end off, or removes it. Then the
same command must do one of these:

  equal    end with the numbers of a run that nobody touched
  refused  end with code 2 and one sentence that names the file
  unread   end with these numbers, not having read the damaged checkpoint of a player that is
           finished, which whoever reads it then refuses

A game that ends with other numbers, in a traceback, or with a damaged player that can be read is
wrong, and the tool ends with code 1. The table has the outcomes by kind of file.
"""

import collections
import dataclasses
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from apo_jax.logs.run_directory import CHECKSUMS
from apo_jax.models.definition import Definition
from apo_jax.training.checkpoints import DamagedCheckpoint, load_parameters
from tests.reliability import playing, same

# Behind these of the last round a game is stopped.
_STOPS = ("golden_samples.jsonl", "reward.json", "score.json", "policy.json")
_DAMAGES = ("flip", "cut", "remove")
_OUTCOMES = ("equal", "refused", "unread", "wrong")
# The sentence on these names the field or the run: their content is held against the command's.
_SAID_BY_THE_RUN = ("config.json", "data.json", "origins.json")


@dataclasses.dataclass(frozen=True)
class Try:
  """One damaged file.

  Attributes:
    run_dir: the directory that it lies in.
    path: the file, from there.
    damage: what was done to it, in words.
  """

  run_dir: Path
  path: Path
  damage: str


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the tool; returns the exit code."""
  parser = playing.parser(__doc__)
  parser.add_argument("--tries", type=int, default=80, help="how many files are damaged")
  parser.add_argument("--kinds", nargs="*", default=(), help="kinds of files, by default all")
  given = parser.parse_args(arguments)
  folder, chance, failures = playing.folder_of(given.folder), random.Random(given.seed), []
  game = playing.Game(folder, rounds=1, checkpoints__every_steps=1)
  whole, _ = game.whole()
  states = [*stopped(game, folder), whole]
  print(f"{len(states)} directories to damage.", flush=True)
  counts: collections.Counter[tuple[str, str]] = collections.Counter()
  for number in range(given.tries):
    one = damaged(chance.choice(states), folder / f"try_{number}", given.kinds, chance)
    outcome, said = outcome_of(one, game.play(one.run_dir), whole)
    counts[kind(one.path), outcome] += 1
    print(f"{number + 1:4d} {outcome:8s} {one.path}: {one.damage}", flush=True)
    if outcome == "wrong":
      print(said, flush=True)
      failures.append(one)
    else:
      shutil.rmtree(one.run_dir)
  print(table(counts))
  wrong = f"{len(failures)} wrong" if failures else "none wrong"
  sentence = f"{given.tries} damaged files: {wrong}."
  return playing.finish(folder, given.folder, failures, sentence)


def stopped(game: playing.Game, folder: Path) -> list[Path]:
  """Directories of a game as it was killed behind some of its phases."""
  run_dir, made = folder / "stopped", []
  for name in _STOPS:
    playing.kill_when(game.start(run_dir), (run_dir / "rounds/01" / name).exists)
    made.append(folder / f"behind_{name.split('.')[0]}")
    shutil.copytree(run_dir, made[-1])
  return made


def kind(path: Path) -> str:
  """What kind of file it is, by its path in a run directory."""
  if path.parts[0] == "checkpoints":
    within = [
      part for part in ("parameters", "optimizer", "input", "checksums") if part in path.parts
    ]
    return f"checkpoint, {within[0] if within else 'beside'}"
  if path.parts[0] == "rounds":
    return path.name if path.name == CHECKSUMS else f"round, {path.suffix[1:]}"
  return path.parts[0]


def damaged(state: Path, run_dir: Path, kinds: Sequence[str], chance: random.Random) -> Try:
  """A copy of a run directory with one damaged file; every kind of file is as likely."""
  shutil.copytree(state, run_dir)
  by_kind = collections.defaultdict(list)
  for path in sorted(path for path in run_dir.rglob("*") if path.is_file()):
    by_kind[kind(path.relative_to(run_dir))].append(path)
  possible = [name for name in sorted(by_kind) if not kinds or name in kinds]
  path = chance.choice(by_kind[chance.choice(possible)])
  content, damage = path.read_bytes(), chance.choice(_DAMAGES)
  if damage == "remove" or not content:
    path.unlink()
    words = "removed"
  elif damage == "cut":
    length = chance.randrange(len(content))
    path.write_bytes(content[:length])
    words = f"cut to {length:,} of {len(content):,} bytes"
  else:
    place, bit = chance.randrange(len(content)), chance.randrange(8)
    changed = content[place] ^ (1 << bit)
    path.write_bytes(content[:place] + bytes([changed]) + content[place + 1 :])
    words = f"bit {bit} of byte {place:,} of {len(content):,} flipped"
  return Try(run_dir, path.relative_to(run_dir), words)


def outcome_of(one: Try, result: playing.Ended, whole: Path) -> tuple[str, str]:
  """One of `_OUTCOMES`, and what is to be known of a wrong one."""
  if result.is_refusal:
    return ("refused", "") if names(one, result.complained) else ("wrong", result.words)
  if result.code or result.has_traceback:
    return "wrong", result.words
  found = same.differences(whole, one.run_dir)
  if not found:
    return "equal", ""
  if one.path.parts[0] == "checkpoints":
    player, step = one.path.parts[1:3]
    others = same.differences(whole, one.run_dir, leave_out=player)
    if not others and is_refused(whole, one.run_dir, player, step):
      return "unread", ""
  return "wrong", "\n".join(found)


def names(one: Try, sentence: str) -> bool:
  """Whether a sentence names the damaged file: of a checkpoint its step, or its player."""
  if one.path.parts[0] == "checkpoints":
    return "/".join(one.path.parts[:2]) in sentence
  if str(one.path) in _SAID_BY_THE_RUN:
    return str(one.run_dir) in sentence
  if one.path.name == CHECKSUMS:  # of a round's files, and of its lines of metrics.jsonl
    return str(one.path.parent) in sentence or "metrics.jsonl" in sentence
  return str(one.path) in sentence


def is_refused(whole: Path, run_dir: Path, player: str, step: str) -> bool:
  """Whether reading a player's damaged step is refused, or gives what was written."""
  if not step.isdecimal():
    return True  # beside the steps, where nothing of the player is
  anything = object.__new__(Definition)
  vars(anything)["trained"] = None  # whatever was written
  try:
    found = load_parameters(run_dir / "checkpoints" / player, anything, int(step))
  except DamagedCheckpoint:
    return True
  written = load_parameters(whole / "checkpoints" / player, anything, int(step))
  return same.bits(found) == same.bits(written)


def table(counts: collections.Counter[tuple[str, str]]) -> str:
  """The outcomes by kind of file."""
  kinds = sorted({name for name, _ in counts})
  width = max(map(len, kinds), default=0)
  lines = [" " * width + "".join(f"{outcome:>9s}" for outcome in _OUTCOMES)]
  for name in kinds:
    lines.append(name.ljust(width) + "".join(f"{counts[name, one]:9d}" for one in _OUTCOMES))
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
