"""Which run of a sweep is played when, so that no phase is played twice and no place lies idle."""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from apo_jax.run.sharing import drop_unneeded
from apo_jax.sweep import process
from apo_jax.sweep.placement import Place
from apo_jax.sweep.process import RunProcess, try_lock_run
from apo_jax.sweep.runs import SHARED, Planned
from apo_jax.sweep.table import Row

_SECONDS_BETWEEN_LOOKS = 0.5
_GRACE_SECONDS = 10.0


class Schedule:
  """The runs of a sweep and how they stand.

  Args:
    runs: all of them, in the order in which they are started where nothing speaks against it.
    places: one for each of the runs that are played at once.
    sweep_dir: the sweep's directory.
  """

  def __init__(self, runs: Sequence[Planned], places: Sequence[Place], sweep_dir: Path):
    self._runs = runs
    self._free = list(places)
    self._sweep_dir = sweep_dir
    self._playing: dict[str, tuple[RunProcess, Place]] = {}
    self._left = {run.name: run.left() for run in runs}
    self._finished = {run.name for run in runs if run.is_finished()}
    self._failed: dict[str, str] = {}
    self._elsewhere: set[str] = set()
    self._seconds: dict[str, float] = {}

  @property
  def failed(self) -> dict[str, str]:
    """What the runs that failed said last, by their names."""
    return self._failed

  def play(self, show: Callable[[list[Row]], None], stopped: Callable[[], bool]) -> None:
    """Plays all runs that are not finished.

    Args:
      show: called with how they stand, twice a second.
      stopped: whether to end what is played and return.
    """
    try:
      while not stopped():
        self._look()
        self._start()
        show(self.rows())
        if len(self._finished) + len(self._failed) == len(self._runs):
          return
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
      process.end([one for one, _ in self._playing.values()], _GRACE_SECONDS)

  def rows(self) -> list[Row]:
    """How the runs stand."""
    return list(map(self._row, self._runs))

  def _look(self) -> None:
    """Sees what has become of the runs that are played."""
    for run in self._runs:
      if run.name in self._elsewhere or run.name in self._playing:
        self._left[run.name] = run.left()
      if run.name not in self._playing:
        continue
      one, place = self._playing[run.name]
      self._seconds[run.name] = time.monotonic() - one.started
      code = one.code
      if code is None:
        continue
      del self._playing[run.name]
      self._free.append(place)
      self._left[run.name] = run.left()
      if code == 0:
        self._finished.add(run.name)
      else:
        self._failed[run.name] = last_sentence(run.log, code)
      needed = {run.recipes[name] for run in self._runs for name in self._left[run.name]}
      drop_unneeded(self._sweep_dir / SHARED, needed)

  def _start(self) -> None:
    """Starts runs while there is a place, of those that need not wait for another's phase."""
    for run in self._runs:
      idle = {*self._playing, *self._finished, *self._failed}
      if not self._free or run.name in idle or self._waits(run):
        continue
      lock = try_lock_run(run)
      if lock is None:
        self._elsewhere.add(run.name)
        continue
      self._elsewhere.discard(run.name)
      if run.is_finished():  # by whoever had it
        lock.close()
        self._finished.add(run.name)
        continue
      place = self._free.pop(0)
      self._playing[run.name] = RunProcess(run, place, lock), place

  def _waits(self, run: Planned) -> bool:
    """Whether a run that is played has yet to play a phase that this one would take over."""
    own = {run.recipes[name] for name in self._left[run.name]}
    others = (one for one in self._runs if one.name in {*self._playing, *self._elsewhere})
    theirs = {
      one.recipes[name] for one in others if one is not run for name in self._left[one.name]
    }
    return bool(own & theirs)

  def _row(self, run: Planned) -> Row:
    left = self._left[run.name]
    state, detail = "waiting", ""
    if run.name in self._finished:
      state = "done"
    elif run.name in self._failed:
      state, detail = "failed:", self._failed[run.name]
    elif run.name in self._playing or run.name in self._elsewhere:
      state = "playing" if run.name in self._playing else "played by an earlier start:"
      detail = left[0].words if left else "report"
    judged = {name.round for name in left if name.result == "evaluation.json"}
    rounds = run.config.rounds + 1
    return Row(
      run.name,
      state,
      detail,
      run.taken_over(),
      (rounds - len(judged), rounds),
      self._seconds.get(run.name),
      run.evaluation(),
    )


def last_sentence(log: Path, code: int) -> str:
  """What a run that failed said last."""
  lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
  said = next((line for line in reversed(lines) if line), "it said nothing")
  if code < 0:
    return f"ended by {signal.Signals(-code).name} (last: {said})"
  return said.removeprefix("apo_jax: ")
