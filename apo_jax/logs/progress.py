"""What a run says while it works: bars on a terminal or plain lines, and a table of the rounds."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOBase
from typing import Any, SupportsFloat

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from apo_jax.config.visible import visible

_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class _Column:
  """A column of the table of rounds: its heading, its key in evaluation.json, its format."""

  heading: tuple[str, str]
  key: str
  form: str

  @property
  def name(self) -> str:
    """The heading as it is read in a line."""
    first, second = (part.strip() for part in self.heading)
    return first[:-1] + second if first.endswith("-") else f"{first} {second}".strip()

  @property
  def width(self) -> int:
    return max(len(line) for line in self.heading)


# 78 characters with two spaces between the columns: the table fits an 80-column terminal.
_COLUMNS = (
  _Column(("", "round"), "round", ".0f"),
  _Column(("true", "utility"), "true_utility", ".3f"),
  _Column(("testing", "reward"), "testing_reward", ".3f"),
  _Column(("win vs", "golden"), "win_rate_golden", ".3f"),
  _Column(("win vs", "start"), "win_rate_start", ".3f"),
  _Column(("KL to", "start"), "kl_to_start", ".2f"),
  _Column(("", "length"), "response_length", ".1f"),
  _Column(("unfin-", "ished"), "unfinished", ".3f"),
  _Column(("reward", "acc."), "reward_accuracy", ".3f"),
  _Column(("", "   ECE"), "reward_ece", ".3f"),
)
_NOTE = "(±: standard error over test queries; of acc. and ECE, over test preferences)"


def _line(cells: Iterable[str]) -> str:
  return "  ".join(
    cell.rjust(column.width) for cell, column in zip(cells, _COLUMNS, strict=True)
  ).rstrip()


def _header() -> list[str]:
  return [
    _line(column.heading[0] for column in _COLUMNS),
    _line(column.heading[1] for column in _COLUMNS),
    _line("-" * column.width for column in _COLUMNS),
    _NOTE,
  ]


def _row(evaluation: Mapping[str, Any]) -> list[str]:
  """A round's numbers, and under them their standard errors where these are known."""
  errors = evaluation.get("standard_errors", {})
  lines = [
    _line(_cell("{:{}}", evaluation.get(column.key), column, "-") for column in _COLUMNS),
    _line(_cell("±{:{}}", errors.get(column.key), column, "") for column in _COLUMNS),
  ]
  return [line for line in lines if line]


def _said(evaluation: Mapping[str, Any]) -> str:
  """A round's numbers as one line, those that are known."""
  errors = evaluation.get("standard_errors", {})
  parts = []
  for column in _COLUMNS[1:]:
    value, error = evaluation.get(column.key), errors.get(column.key)
    if value is not None:
      shown = f"{column.name} {value:{column.form}}"
      parts.append(shown if error is None else f"{shown} ±{error:{column.form}}")
  return f"round {evaluation['round']} judged: {', '.join(parts)}"


def _cell(pattern: str, value: float | int | None, column: _Column, unknown: str) -> str:
  return unknown if value is None else pattern.format(value, column.form)


class PhaseProgress:
  """How far one phase has come; made by `Progress.phase`.

  Attributes:
    total: units of work there are, None if that is not known.
    done: units of work done.
    values: those shown.
    first_seconds: the phase's age when its first unit of work was done, None where nobody said so.
  """

  def __init__(
    self,
    total: int | None,
    changed: Callable[["PhaseProgress"], None],
    clock: Callable[[], float],
  ):
    self.total = total
    self.done = 0
    self.values: dict[str, float] = {}
    self.first_seconds: float | None = None
    self._changed = changed
    self._clock = clock
    self._started = clock()

  def advance(self, n: int = 1, **values: SupportsFloat) -> None:
    """Counts `n` more units of work and shows the values, such as loss=0.31, until the next."""
    self.done += n
    self.values.update({name: float(value) for name, value in values.items()})
    self._changed(self)

  def first_done(self) -> None:
    """Says that the first unit of work is done, which compiles what the others use again."""
    self.first_seconds = self.seconds

  @property
  def seconds(self) -> float:
    """The phase's age."""
    return self._clock() - self._started

  @property
  def count(self) -> str:
    """The units done, "3/24", or "3" where the total is not known or there is nothing to do."""
    return _count(self.done, self.total)


def _count(done: int, total: int | None) -> str:
  return f"{done}/{total}" if total else f"{done}"


def _shown(phase: PhaseProgress) -> str:
  return " ".join(f"{name}={value:.4g}" for name, value in phase.values.items())


def _first(phase: PhaseProgress) -> str:
  seconds = phase.first_seconds
  return "" if seconds is None else f" (the first after {seconds:.1f} s)"


class Progress:
  """Shows the progress of a run: bars where the stream is a terminal, plain lines where it is not.

  Args:
    enabled: false on every process but the first; nothing is shown then.
    stream: where to write, the standard output if None.
    clock: seconds from any starting point, for the time between plain lines and the time a phase
      took.
  """

  def __init__(
    self,
    enabled: bool,
    stream: TextIOBase | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._enabled = enabled
    self._stream = sys.stdout if stream is None else stream
    self._clock = clock
    self._console = Console(file=self._stream) if self._stream.isatty() else None
    self._header_shown = False

  def message(self, text: str) -> None:
    """Shows one line of text, above a running bar; names and texts of strangers may be in it."""
    if not self._enabled:
      return
    text = visible(text)
    if self._console is not None:
      # Neither markup nor wrapping: the text may hold brackets, and rows of a table must stay
      # whole.
      self._console.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
      print(text, file=self._stream, flush=True)

  def table(self, rows: Iterable[Mapping[str, Any]]) -> None:
    """Shows the rows with a header, each the content of a round's evaluation.json."""
    for line in _header():
      self.message(line)
    for row in rows:
      self._show(row)
    self._header_shown = True

  def judged(self, evaluation: Mapping[str, Any]) -> None:
    """Says how a finished round was judged, whose table comes at the end.

    A row on a terminal; else a line that can be read alone, between those of the phases.

    Args:
      evaluation: the content of the round's evaluation.json.
    """
    if self._console is not None:
      self.round_row(evaluation)
    else:
      self.message(_said(evaluation))

  def round_row(self, evaluation: Mapping[str, Any]) -> None:
    """Shows a finished round in two lines of the table; the header comes before the first.

    Args:
      evaluation: the content of the round's evaluation.json; "-" stands for what is None or absent.
    """
    if self._header_shown:
      self._show(evaluation)
    else:
      self.table([evaluation])

  def _show(self, evaluation: Mapping[str, Any]) -> None:
    for line in _row(evaluation):
      self.message(line)

  @contextmanager
  def phase(
    self, title: str, total: int | None, *, unit: str = "updates"
  ) -> Iterator[PhaseProgress]:
    """Shows the progress of one phase while the block runs, and the time it took.

    Args:
      title: what is being done, such as "round 1 reward step".
      total: how many units of work there are, None if that is not known.
      unit: what is counted, in the plural.

    Yields:
      the object to `advance`.
    """
    if not self._enabled:
      yield PhaseProgress(total, lambda _: None, self._clock)
    elif self._console is not None:
      with self._bar(self._console, title, total) as phase:
        yield phase
    else:
      with self._lines(title, total, unit) as phase:
        yield phase

  @contextmanager
  def _bar(self, console: Console, title: str, total: int | None) -> Iterator[PhaseProgress]:
    bars = RichProgress(
      TextColumn("{task.description}", markup=False),
      BarColumn(),
      TextColumn("{task.fields[count]}"),
      TimeElapsedColumn(),
      TextColumn("{task.fields[shown]}", markup=False),
      console=console,
    )
    with bars:
      task = bars.add_task(title, total=total, count=_count(0, total), shown="")
      yield PhaseProgress(
        total,
        lambda phase: bars.update(
          task,
          completed=phase.done,
          count=phase.count,
          shown=f"{_shown(phase)}{_first(phase)}",
        ),
        self._clock,
      )

  @contextmanager
  def _lines(self, title: str, total: int | None, unit: str) -> Iterator[PhaseProgress]:
    last = self._clock()

    def changed(phase: PhaseProgress) -> None:
      nonlocal last
      now = self._clock()
      # The last unit is told by the line at the end.
      if now - last >= _SECONDS_BETWEEN_LINES and phase.done != total:
        last = now
        self.message(f"{title}: {phase.count} {_shown(phase)}".rstrip())

    phase = PhaseProgress(total, changed, self._clock)
    self.message(f"{title}: {total} {unit}" if total else title)
    try:
      yield phase
    except BaseException:
      self.message(f"{title}: stopped at {phase.count} after {phase.seconds:.1f} s")
      raise
    done = f"{phase.count} {unit}" if phase.done or total != 0 else f"no {unit}, ready"
    seconds = f"{done} in {phase.seconds:.1f} s{_first(phase)}"
    self.message(f"{title}: {seconds} {_shown(phase)}".rstrip())
