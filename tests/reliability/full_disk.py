"""Plays games on disks that are too small, or that are full all of a sudden.

    python -m tests.reliability.full_disk --tries=12

Each try mounts a tmpfs, which takes the right to mount (root), and plays a game on it. Of half of
the tries it is smaller than a run; of the others something else fills it at a random moment. A game
that has no room must end with code 2 and one sentence that says so; whatever phase was finished
must be there unchanged; and with room again, the same command must end with the numbers of a game
that always had it. Ends with code 1 where anything is otherwise.
"""

import collections
import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from apo_jax.logs.files import file_sha256
from tests.reliability import playing, same

# Of the sentence, in all its forms (apo_jax/logs/storage.py).
_SAYS = "free"
_MEGABYTE = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the tool; returns the exit code."""
  parser = playing.parser(__doc__)
  parser.add_argument("--tries", type=int, default=12, help="how many disks are played on")
  given = parser.parse_args(arguments)
  folder, chance, failures = playing.folder_of(given.folder), random.Random(given.seed), []
  problem = why_not(folder)
  if problem:
    sentence = f"No disk was tried: a tmpfs cannot be mounted here ({problem})."
    return playing.finish(folder, given.folder, failures, sentence)
  game = playing.Game(folder, rounds=1, checkpoints__every_steps=1)
  whole, seconds = game.whole()
  size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
  print(f"A run takes {seconds:.1f} s and {size / _MEGABYTE:.1f} MB.", flush=True)
  outcomes: collections.Counter[str] = collections.Counter()
  for number in range(given.tries):
    place = folder / f"disk_{number}"
    if number % 2:
      words, moment = f"filled after {(after := chance.uniform(0, seconds)):.1f} s", after
      room = 8 * size
    else:
      room, moment = int(size * chance.uniform(0.02, 1.1)), None
      words = f"{room / _MEGABYTE:.2f} MB"
    with disk(place, room):
      outcome, problems = _play(game, place, moment, 8 * size, whole)
    outcomes[outcome] += 1
    print(f"{number + 1:3d} {words}: {'; '.join(problems) or outcome}", flush=True)
    failures += [place] if problems else []
  for outcome, times in outcomes.most_common():
    print(f"  {times:4d} {outcome}")
  sentence = f"{given.tries} disks: {given.tries - len(failures)} well, {len(failures)} not."
  return playing.finish(folder, given.folder, failures, sentence)


def why_not(folder: Path) -> str:
  """Why no tmpfs can be mounted; empty where one can."""
  try:
    with disk(folder / "probe", _MEGABYTE):
      return ""
  except (OSError, subprocess.CalledProcessError) as error:
    said = getattr(error, "stderr", None) or str(error)
    return said.strip().splitlines()[-1]


@contextlib.contextmanager
def disk(place: Path, room: int) -> Iterator[None]:
  """A tmpfs of so many bytes, mounted while the block runs."""
  place.mkdir(parents=True)
  _run("mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(place))
  try:
    yield
  finally:
    _run("umount", str(place))
    place.rmdir()


def _run(*command: str) -> None:
  subprocess.run(command, check=True, capture_output=True, text=True)


def _play(
  game: playing.Game, place: Path, moment: float | None, enough: int, whole: Path
) -> tuple[str, list[str]]:
  """Plays a game on a disk, and again with enough room: what came of it, and what is wrong."""
  run_dir, filling = place / "run", place / "filling"
  started = game.start(run_dir)
  timer = threading.Timer(moment or 0.0, fill, [filling])
  if moment is not None:
    timer.start()
  first = started.end()
  timer.cancel()
  if moment is not None:
    timer.join()
  if first.code == 0:
    return "had room", same.differences(whole, run_dir)
  if not first.is_refusal or _SAYS not in first.complained:
    return "wrong", [f"the first start went wrong: {first.words}"]
  kept = hashes(run_dir / "rounds")
  filling.unlink(missing_ok=True)
  _run("mount", "-o", f"remount,size={enough}", str(place))
  again = game.play(run_dir)
  if again.code:
    return "wrong", [f"with room again it does not end: {again.words}"]
  lost = [name for name, sha256 in kept.items() if hashes(run_dir / "rounds").get(name) != sha256]
  problems = [f"rounds/{name} was finished, and is another" for name in lost]
  return "refused, then equal", problems + same.differences(whole, run_dir)


def fill(path: Path) -> None:
  """Writes to a file until nothing is free."""
  with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
    while file.write(os.urandom(1 << 16)):
      pass


def hashes(rounds: Path) -> dict[str, str]:
  """Of the results of finished training phases, which nobody writes again."""
  found = {}
  for path in rounds.glob("*/*.json") if rounds.exists() else ():
    if path.stem in ("supervised", "reward_base", "testing_reward", "reward", "policy"):
      found[str(path.relative_to(rounds))] = file_sha256(path)
  return found


if __name__ == "__main__":
  sys.exit(main())
