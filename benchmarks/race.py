"""Contestants side by side: built one after another, run in turns, with the machine's limit."""

import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from benchmarks.protocol import Contestant
from benchmarks.work import Machine

FLAGS = flags.FLAGS

OURS = "benchmarks.contestants.ours"
TRL = "benchmarks.contestants.trl_peer"
TUNIX = "benchmarks.contestants.tunix_peer"
PEERS = (TRL, TUNIX)
RECOMPUTING = "apo_jax, recomputing"

# The first run compiles. Tunix's trainer compiles its step once more in the second.
WARM_UPS = 2


class Entry(NamedTuple):
  """One that takes part.

  Attributes:
    name: in tables.
    module: `OURS`, `TRL` or `TUNIX`.
    job: what it is to build; see the module.
  """

  name: str
  module: str
  job: Mapping[str, Any]


def both_ways(job: Mapping[str, Any]) -> list[Entry]:
  """Our step on a job as it is, and with a backward pass that computes all layers again."""
  again = job | {"model": job["model"] | {"remat": "full"}}
  return [Entry("apo_jax", OURS, job), Entry(RECOMPUTING, OURS, again)]


class Runs(NamedTuple):
  """What one contestant did.

  Attributes:
    facts: versions and device.
    warm_ups: its answers to the runs that compile and do not count; each has `seconds`.
    timed: its answers to the timed runs.
  """

  facts: dict[str, Any]
  warm_ups: list[dict[str, Any]]
  timed: list[dict[str, Any]]

  @property
  def median(self) -> float:
    """Of the timed runs, in seconds."""
    return statistics.median(run["seconds"] for run in self.timed)


class Result(NamedTuple):
  """A whole race.

  Attributes:
    runs: by contestant.
    limits: by contestant, what its library reached of the machine before each timed run.
    left_out: a line for each that did not take part.
  """

  runs: dict[str, Runs]
  limits: dict[str, list[dict[str, float]]]
  left_out: list[str]

  @property
  def machine(self) -> Machine:
    """What the best library reached, by its median."""

    def best(name: str) -> float:
      return max(statistics.median(one[name] for one in some) for some in self.limits.values())

    return Machine(best("flops"), best("bandwidth"))


def race(entries: Sequence[Entry], repeats: int) -> Result:
  """Each in turn, `repeats` times, behind runs of each that do not count."""
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
    scratch = Path(folder)
    present, left_out = prepared(entries, scratch)
    contestants = [stack.enter_context(_started(entry, scratch)) for entry in present]
    answers: dict[str, list[Any]] = {contestant.name: [] for contestant in contestants}
    limits: dict[str, list[Any]] = {contestant.name: [] for contestant in contestants}
    for turn in range(WARM_UPS + repeats):
      for contestant in contestants:
        limits[contestant.name].append(contestant.ask("limits"))
        answers[contestant.name].append(contestant.ask("run"))
        say(f"{contestant.name}, run {turn}: {answers[contestant.name][-1]['seconds']:.3g} s")
  runs = {
    one.name: Runs(one.facts, answers[one.name][:WARM_UPS], answers[one.name][WARM_UPS:])
    for one in contestants
  }
  return Result(runs, {name: some[WARM_UPS:] for name, some in limits.items()}, left_out)


def alone(entry: Entry, requests: Sequence[str], scratch: Path) -> list[Any]:
  """The answers of a new process that has the machine to itself; `entry` is `prepared`."""
  with _started(entry, scratch) as contestant:
    return [contestant.ask(request) for request in requests]


def prepared(entries: Sequence[Entry], scratch: Path) -> tuple[list[Entry], list[str]]:
  """Those whose environment is given, with the weights that all share, and lines about others."""
  present = [entry for entry in entries if _python(entry.module)]
  flag = {TRL: "--trl_python", TUNIX: "--tunix_python"}
  left_out = [
    f"{entry.name} is left out: {flag[entry.module]} names no Python."
    for entry in entries
    if entry not in present
  ]
  if any(entry.module in PEERS for entry in present):
    weights = scratch / "weights"
    job = dict(present[0].job) | {"work": "weights", "weights": str(weights)}
    with _started(Entry("weights", OURS, job), scratch):
      pass
    present = [one._replace(job={**one.job, "weights": str(weights)}) for one in present]
  return present, left_out


def say(line: str) -> None:
  """A line of progress, apart from the table."""
  print(line, file=sys.stderr, flush=True)


def _python(module: str) -> str:
  return {OURS: sys.executable, TRL: FLAGS.trl_python, TUNIX: FLAGS.tunix_python}[module]


@contextlib.contextmanager
def _started(entry: Entry, scratch: Path) -> Iterator[Contestant]:
  say(f"{entry.name}: starting")
  contestant = Contestant(
    entry.name, _python(entry.module), entry.module, entry.job, scratch=scratch
  )
  try:
    yield contestant
  finally:
    contestant.close()
