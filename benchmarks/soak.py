"""Hundreds of rounds of a tiny game in one process: whether anything grows that must not.

    python -m benchmarks.soak --rounds=500

Behind every round it writes down the process's memory, file descriptors and threads, what it
compiled and traced in the round, what lies on the disk, and the round's seconds, in a CSV file. At
the end it fits a line through each, over the rounds behind the warm-up, and says which are flat;
where one is not, it ends with code 1.

The disk is told in two parts. What a game leaves of every round, its results and lines of metrics,
must grow by as much in every round, which is said. All else, the checkpoints that are kept and the
files beside them, must not grow.
"""

import collections
import csv
import dataclasses
import os
import pathlib
import tempfile
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from absl import app, flags, logging
from jaxtyping import Float

from apo_jax import game
from apo_jax.config.checks import from_config_dict
from apo_jax.devices import interrupts
from benchmarks import report, soak_config

FLAGS = flags.FLAGS

flags.DEFINE_integer("rounds", 500, "Rounds of the game.", lower_bound=20)
flags.DEFINE_integer("warm_up", None, "Rounds that are not fitted; by default a tenth of them.")
flags.DEFINE_string("csv", "runs/benchmarks/soak.csv", "Where every round's numbers go.")
flags.DEFINE_string("run_dir", None, "Where the game is played; by default a temporary directory.")

_COMPILED = "/jax/core/compile/backend_compile_duration"
_TRACED = "/jax/core/compile/jaxpr_trace_duration"
# What a round adds for good: its results, its lines, its part of the report.
_RESULTS = ("rounds", "metrics.jsonl", "report.html")
# Slopes are of means over so many blocks of rounds: neighbours are not independent.
_BLOCKS = 10


@dataclasses.dataclass(frozen=True)
class Limit:
  """How far a number may grow and count as flat.

  Attributes:
    unit: of the number.
    share: of its mean, over all the rounds that are fitted.
    whole: the least growth over these rounds that counts, whatever the share.
  """

  unit: str
  share: float
  whole: float


# Counts must not grow by one over hundreds of rounds. The allocator and a busy machine move memory
# and time without a cause in the game.
LIMITS = {
  "memory": Limit("MB", 0.02, 0.0),
  "descriptors": Limit("", 0.0, 1.0),
  "threads": Limit("", 0.0, 1.0),
  "compilations": Limit("", 0.0, 0.5),
  "traces": Limit("", 0.0, 0.5),
  "results_growth": Limit("kB", 0.1, 0.0),
  "other_disk": Limit("kB", 0.01, 0.0),
  "cpu_seconds": Limit("s", 0.1, 0.0),
  "seconds": Limit("s", 0.2, 0.0),
}


@dataclasses.dataclass(frozen=True)
class Slope:
  """A line through a number over rounds.

  Attributes:
    mean: the number's mean.
    growth: by how much it grows over all rounds that are fitted.
    error: the standard error of that.
  """

  mean: float
  growth: float
  error: float

  def is_flat(self, limit: Limit) -> bool:
    """Whether the growth, by more than two of its errors, is not above the limit."""
    return self.growth - 2 * self.error <= max(limit.whole, limit.share * abs(self.mean))


def fit(values: Float[np.ndarray, " rounds"]) -> Slope:
  """The least-squares line through the means of blocks of neighbouring rounds.

  Raises:
    ValueError: there are fewer rounds than blocks.
  """
  if len(values) < _BLOCKS:
    raise ValueError(f"{len(values)} rounds are fewer than {_BLOCKS} blocks.")
  means = np.array([block.mean() for block in np.array_split(values, _BLOCKS)])
  places = np.arange(_BLOCKS) - (_BLOCKS - 1) / 2
  slope = float(places @ means / (places @ places))
  left = means - means.mean() - slope * places
  error = float(np.sqrt(left @ left / (_BLOCKS - 2) / (places @ places)))
  return Slope(float(values.mean()), slope * _BLOCKS, error * _BLOCKS)


def verdict(
  rounds: Sequence[Mapping[str, float]], warm_up: int
) -> tuple[list[list[str]], list[str]]:
  """A row of a table for each number, and the names of those that are not flat."""
  rows, failed = [], []
  for name, limit in LIMITS.items():
    slope = fit(np.array([row[name] for row in rounds[warm_up:]], float))
    if not slope.is_flat(limit):
      failed.append(name)
    allowed = max(limit.whole, limit.share * abs(slope.mean))
    rows.append(
      [
        name,
        f"{slope.mean:,.3f} {limit.unit}".strip(),
        f"{slope.growth:+,.3f} ± {slope.error:,.3f}",
        f"{1000 * slope.growth / (len(rounds) - warm_up):+,.3f}",
        f"{allowed:,.3f}",
        "no" if name in failed else "yes",
      ]
    )
  return rows, failed


class Watch:
  """The numbers of every round of a game, written down as they come."""

  def __init__(self, run_dir: pathlib.Path, path: pathlib.Path):
    self.rounds: list[dict[str, float]] = []
    self._run_dir = run_dir
    self._counts: collections.Counter[str] = collections.Counter()
    self._clocks = time.monotonic(), time.process_time()
    path.parent.mkdir(parents=True, exist_ok=True)
    self._file = path.open("w", newline="", encoding="utf-8")
    self._csv = csv.DictWriter(self._file, ["round", "results", *LIMITS])
    self._csv.writeheader()
    jax.monitoring.register_event_duration_secs_listener(self._heard)

  def _heard(self, event: str, seconds: float, **details: object) -> None:
    del seconds, details
    self._counts[event] += 1

  def phase_ended(self, phase: game.Phase) -> None:
    """Called behind every phase; a round ends with its evaluation."""
    if phase.result != game.EVALUATION:
      return
    clocks = time.monotonic(), time.process_time()
    results, other = disk(self._run_dir)
    before = self.rounds[-1]["results"] if self.rounds else 0.0
    row = {
      "round": phase.round,
      "memory": resident_megabytes(),
      "descriptors": len(os.listdir("/proc/self/fd")),
      "threads": len(os.listdir("/proc/self/task")),
      "compilations": self._counts[_COMPILED],
      "traces": self._counts[_TRACED],
      "results": results,
      "results_growth": results - before,
      "other_disk": other,
      "seconds": clocks[0] - self._clocks[0],
      "cpu_seconds": clocks[1] - self._clocks[1],
    }
    self.rounds.append(row)
    self._csv.writerow({name: f"{value:.6g}" for name, value in row.items()})
    self._file.flush()
    self._counts.clear()
    # What the watch itself takes is not the round's.
    self._clocks = time.monotonic(), time.process_time()


def resident_megabytes() -> float:
  """The memory of this process that is in use."""
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def disk(run_dir: pathlib.Path) -> tuple[float, float]:
  """What results take of the disk, without the report, and what all else takes, in kB."""
  results = other = 0
  for path in run_dir.rglob("*"):
    if not path.is_file():
      continue
    first = path.relative_to(run_dir).parts[0]
    if first == "report.html":  # written now and then, and bounded by the rounds that it shows
      continue
    if first in _RESULTS:
      results += path.stat().st_size
    else:
      other += path.stat().st_size
  return results / 1e3, other / 1e3


def main(argv: Sequence[str]) -> int:
  """Runs the benchmark; returns the exit code."""
  del argv
  logging.set_verbosity(logging.WARNING)  # as the command does
  fields = soak_config.get_config()
  fields.rounds = FLAGS.rounds
  config = from_config_dict(fields)
  warm_up = FLAGS.rounds // 10 if FLAGS.warm_up is None else FLAGS.warm_up
  with tempfile.TemporaryDirectory() as folder:
    run_dir = pathlib.Path(FLAGS.run_dir or folder) / "game"
    watch = Watch(run_dir, pathlib.Path(FLAGS.csv))
    with interrupts.listening():
      game.play(config, run_dir, on_phase_end=watch.phase_ended)
  rows, failed = verdict(watch.rounds, warm_up)
  headings = ["", "mean", "grows over all", "per 1000 rounds", "flat below", "flat"]
  print(report.table(headings, rows))
  print(f"{len(watch.rounds)} rounds, the first {warm_up} not fitted; every round: {FLAGS.csv}")
  print(f"Not flat: {', '.join(failed)}." if failed else "All flat.")
  return int(bool(failed))


if __name__ == "__main__":
  app.run(main)
