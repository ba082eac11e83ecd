"""Starts one command several times at random moments: one plays, the others end at once.

    python -m tests.reliability.two_owners --games=6 --starts=4

While a game is played, the same command is started again and again. Each of these must end with
code 2 and a sentence that names who plays, long before the game does. In every second game the
owner is stopped for a while, in which nobody may take its place, or killed, behind which the next
start must go on with the game. In the end there must be the numbers of a game that was alone, and
each line of metrics.jsonl once. Ends with code 1 where anything is otherwise.
"""

import collections
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.reliability import playing, same


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the tool; returns the exit code."""
  parser = playing.parser(__doc__)
  parser.add_argument("--games", type=int, default=6, help="how many games are played")
  parser.add_argument("--starts", type=int, default=4, help="further starts while one is played")
  given = parser.parse_args(arguments)
  folder, chance, failures = playing.folder_of(given.folder), random.Random(given.seed), []
  game = playing.Game(folder, rounds=1, checkpoints__every_steps=1)
  whole, seconds = game.whole()
  print(f"A game that is alone takes {seconds:.1f} s.", flush=True)
  outcomes: collections.Counter[str] = collections.Counter()
  for number in range(given.games):
    run_dir, fate = (
      folder / f"game_{number}",
      ("lives", "is killed", "lives", "is stopped")[number % 4],
    )
    counts, problems = _play(game, run_dir, fate, given.starts, seconds, chance)
    problems += [] if problems else same.differences(whole, run_dir)
    outcomes.update(counts)
    said = "; ".join(problems) or f"{dict(counts)}, equal"
    print(f"game {number + 1}, whose owner {fate}: {said}", flush=True)
    if problems:
      failures.append(run_dir)
    else:
      shutil.rmtree(run_dir)
  counts = ", ".join(f"{times} {outcome}" for outcome, times in outcomes.most_common())
  sentence = f"{given.games} games, {len(failures)} not well: {counts}."
  return playing.finish(folder, given.folder, failures, sentence)


def _play(
  game: playing.Game,
  run_dir: Path,
  fate: str,
  starts: int,
  seconds: float,
  chance: random.Random,
) -> tuple[collections.Counter[str], list[str]]:
  """Plays a game with further starts beside it: how these ended, and what went wrong."""
  counts: collections.Counter[str] = collections.Counter()
  # The first two at nearly the same time: either may come first.
  running = [game.start(run_dir), game.start(run_dir)]
  ends = []
  for number in range(starts):
    time.sleep(chance.uniform(0, seconds / starts))
    owner = _owner(running)
    if number == 1 and owner is not None and fate == "is killed":
      owner.signal(signal.SIGKILL)
    if number == 1 and owner is not None and fate == "is stopped":
      owner.signal(signal.SIGSTOP)
      ends.append(game.play(run_dir))  # must not take the place of one that may go on
      owner.signal(signal.SIGCONT)
    running.append(game.start(run_dir))
  ends += [one.end() for one in running]
  if not any(end.code == 0 for end in ends):
    ends.append(game.play(run_dir))  # all had come while a killed owner lived
  for end in ends:
    if end.code == 0:
      counts["played"] += 1
    elif end.code == -signal.SIGKILL:
      counts["killed"] += 1
    elif end.is_refusal and "plays" in end.complained:
      counts["refused"] += 1
    else:
      return counts, [f"a start went wrong: {end.words}"]
  return counts, []


def _owner(running: Sequence[playing.Started]) -> playing.Started | None:
  """The one of several that plays, once the others have ended; None while that is open."""
  alive = [one for one in running if one.runs()]
  return alive[0] if len(alive) == 1 else None


if __name__ == "__main__":
  sys.exit(main())
