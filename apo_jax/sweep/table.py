"""What a sweep says while it plays: a live table on a terminal, else a line for what changes."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table

from apo_jax.config.visible import visible


class Row(NamedTuple):
  """What is shown of a run.

  Attributes:
    name: the run's.
    state: what becomes of it, such as "playing".
    detail: more of it, such as "round 2 policy".
    taken_over: how many of its phases other runs have played.
    finished: rounds that are judged, the start among them, and how many there are.
    seconds: since it was started; None where it was not.
    evaluation: the newest round's.
  """

  name: str
  state: str
  detail: str
  taken_over: int
  finished: tuple[int, int]
  seconds: float | None
  evaluation: Mapping[str, Any]

  @property
  def cells(self) -> list[str]:
    """As columns of the table; a run's name may be made of a stranger's."""
    done, total = self.finished
    taken = f" ({self.taken_over} phases shared)" if self.taken_over else ""
    return [
      visible(self.name),
      f"{self.state} {self.detail}".strip() + taken,
      f"{max(done - 1, 0)}/{total - 1}",
      "" if self.seconds is None else duration(self.seconds),
      number_of(self.evaluation, "testing_reward"),
      number_of(self.evaluation, "true_utility"),
    ]


_WIDE = 1000
_HEADINGS = ("run", "state", "rounds", "time", "testing reward", "true utility")


def duration(seconds: float) -> str:
  """Seconds as "1:02:03"."""
  minutes, rest = divmod(round(seconds), 60)
  return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def number_of(evaluation: Mapping[str, Any], key: str) -> str:
  """A number of a round with its standard error; "-" where it is unknown."""
  value, error = evaluation.get(key), evaluation.get("standard_errors", {}).get(key)
  if value is None:
    return "-"
  return f"{value:.3f}" + ("" if error is None else f" ±{error:.3f}")


def as_table(rows: Sequence[Row]) -> Table:
  """All rows as a table, without markup: a run's name may hold brackets."""
  table = Table(box=None, pad_edge=False)
  for number, heading in enumerate(_HEADINGS):
    table.add_column(heading, justify="left" if number < 2 else "right", overflow="fold")
  for row in rows:
    table.add_row(*row.cells)
  return table


class Display:
  """The table of a sweep; a context manager.

  Args:
    console: where it is shown; by default the standard output.
  """

  def __init__(self, console: Console | None = None):
    # Numbers are not coloured, and names keep their brackets. Without a terminal no row is wrapped.
    width = None if sys.stdout.isatty() else _WIDE
    self._console = console or Console(markup=False, highlight=False, width=width)
    self._live: Live | None = None
    self._said: dict[str, tuple[str, int]] = {}

  def __enter__(self) -> "Display":
    if self._console.is_terminal:
      self._live = Live(console=self._console, auto_refresh=False)
      self._live.start()
    return self

  def __exit__(self, *error: object) -> None:
    if self._live is not None:
      self._live.stop()

  def message(self, text: str) -> None:
    """Says one line."""
    self._console.print(visible(text), soft_wrap=True)

  def show(self, rows: Sequence[Row]) -> None:
    """Shows how the runs stand."""
    if self._live is not None:
      self._live.update(as_table(rows), refresh=True)
      return
    for row in rows:
      changed = row.state, row.finished[0]
      if self._said.get(row.name) != changed and row.state != "waiting":
        self.message(_line(row))
      self._said[row.name] = changed

  def last(self, rows: Sequence[Row]) -> None:
    """Leaves the whole table behind."""
    if self._live is None:
      self._console.print(as_table(rows), soft_wrap=True)
    else:
      self.show(rows)


def _line(row: Row) -> str:
  """A row as a line of a log."""
  name, state, rounds, time, reward, utility = row.cells
  parts = [f"{name}: {state}"]
  if row.finished[0]:
    parts.append(f"round {rounds.replace('/', ' of ')} judged: testing reward {reward}")
    if utility != "-":
      parts.append(f"true utility {utility}")
  if time:
    parts.append(f"after {time}")
  return ", ".join(parts)
