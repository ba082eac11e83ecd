"""The report while a game is played: as often as it takes little of the game's time.

The page is made from all rounds. One behind every round would take, over a game of many short
rounds, more and more of it.
"""

import time
from collections.abc import Callable

from apo_jax.logs.places import Place
from apo_jax.report.page import write_report

# A report waits until so many times what the last one took have passed: a sixteenth of the time.
_PAUSE = 15


class OccasionalReports:
  """Writes the report of a run directory, or leaves it be where the last one is not long ago.

  Args:
    run_dir: the run directory.
    clock: seconds from any starting point.
  """

  def __init__(self, run_dir: Place, clock: Callable[[], float] = time.monotonic):
    self._run_dir = run_dir
    self._clock = clock
    self._not_before = clock()

  def write(self) -> None:
    """Writes it, if it is time; what has been played since shows in the next."""
    began = self._clock()
    if began < self._not_before:
      return
    write_report(self._run_dir)
    ended = self._clock()
    self._not_before = ended + _PAUSE * (ended - began)
