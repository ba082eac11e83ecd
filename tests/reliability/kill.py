"""Kills games at random moments, and holds what they end with against one that nothing disturbed.

    python -m tests.reliability.kill --kills=50
    python -m tests.reliability.kill --kills=50 --signal=TERM

A process gets the signal at a random moment of a whole game's time; the same command is started
again, until the game ends. Then metrics, samples, results and parameters must be bit-equal to those
of a game that was never killed, no file may be missing or left over, and no start may have ended
with a traceback or found damage. With TERM, a start that was asked to end must say so in one
sentence and end with code 75. Ends with code 1 where anything is otherwise.
"""

import collections
import random
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.reliability import playing, same

# A game that is killed each time just before it is through with something would never end.
_KILLS_A_GAME = 8
# What a start ends with that had the signal: a process without a handler yet, one with.
_CODES = {signal.SIGKILL: (-signal.SIGKILL,), signal.SIGTERM: (-signal.SIGTERM, 75)}


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the tool; returns the exit code."""
  parser = playing.parser(__doc__)
  parser.add_argument("--kills", type=int, default=50, help="how many signals are sent")
  parser.add_argument("--rounds", type=int, default=1, help="of each game")
  parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
  given = parser.parse_args(arguments)
  number = signal.Signals[f"SIG{given.signal}"]
  folder = playing.folder_of(given.folder)
  # Asked to end, a run saves what it has; killed, it goes on from what it had saved.
  game = playing.Game(folder, rounds=given.rounds, checkpoints__every_steps=1)
  whole, seconds = game.whole()
  print(f"A game that nothing disturbs takes {seconds:.1f} s.", flush=True)
  chance, kills, games, failures = random.Random(given.seed), 0, 0, []
  reached: collections.Counter[str] = collections.Counter()
  while kills < given.kills:
    games += 1
    run_dir, most = folder / f"game_{games}", min(_KILLS_A_GAME, given.kills - kills)
    places, problems = _play(game, run_dir, number, seconds, chance, most)
    problems += [] if problems else same.differences(whole, run_dir)
    kills += len(places)
    reached.update(places)
    print(f"game {games}: {len(places)} kills, {'; '.join(problems) or 'equal'}", flush=True)
    if problems:
      failures.append(run_dir)  # stays to be looked at
    else:
      shutil.rmtree(run_dir)
  for place, times in reached.most_common():
    print(f"  {times:4d} at {place}")
  counts = f"{games - len(failures)} equal, {len(failures)} not"
  sentence = f"{kills} SIG{given.signal} over {games} games: {counts}."
  return playing.finish(folder, given.folder, failures, sentence)


def _play(
  game: playing.Game,
  run_dir: Path,
  number: signal.Signals,
  seconds: float,
  chance: random.Random,
  most: int,
) -> tuple[list[str], list[str]]:
  """Plays a game to its end, killed at most so often: where, and what went wrong."""
  places: list[str] = []
  while True:
    started = game.start(run_dir)
    sent = len(places) < most and started.signal(number, chance.uniform(0.0, seconds))
    result = started.end()
    if result.has_traceback or "damaged" in result.said + result.complained:
      return places, [f"a start went wrong: {result.words}"]
    if sent and result.code in _CODES[number]:
      places.append(_place(result.said))
      if result.code == 75 and not _says_so(result):
        return places, [f"a start does not say why it ended: {result.words}"]
    elif result.code:
      return places, [f"a start ended by itself: {result.words}"]
    else:
      return places, []


def _says_so(result: playing.Ended) -> bool:
  lines = [line for line in result.complained.splitlines() if line.strip()]
  return len(lines) == 1 and "Ended by SIGTERM" in lines[0]


def _place(said: str) -> str:
  """What a game was at, by what it had said: its last line's words before numbers."""
  lines = [line for line in said.splitlines() if ": " in line and not line.startswith("Health")]
  return lines[-1].split(":")[0] if lines else "the start"


if __name__ == "__main__":
  sys.exit(main())
