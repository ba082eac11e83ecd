"""A comparison as lines of text, for a terminal."""

import math
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from apo_jax.compare import wording
from apo_jax.compare.comparison import Comparison
from apo_jax.compare.settings import Setting

_WIDTH = 100


class _Column(NamedTuple):
  """A column: two words above each other, the number's name, digits after the point."""

  heading: tuple[str, str]
  name: str
  digits: int = 3


_COLUMNS = (
  _Column(("true", "utility"), "true_utility"),
  _Column(("testing", "reward"), "testing_reward"),
  _Column(("win vs", "golden"), "win_rate_golden"),
  _Column(("win vs", "start"), "win_rate_start"),
  _Column(("KL to", "start"), "kl_to_start", 2),
  _Column(("", "length"), "response_length", 1),
  _Column(("unfin-", "ished"), "unfinished"),
  _Column(("reward", "acc."), "reward_accuracy"),
  _Column(("", "ECE"), "reward_ece"),
)
_CORNER = 8
_WIDTH_OF_A_COLUMN = 9


def render(comparison: Comparison) -> str:
  """The settings, their numbers after the round, and the differences to the baseline."""
  columns = [one for one in _COLUMNS if one.name in comparison.numbers]
  lines = [line for one in comparison.left_out for line in _wrapped(f"Left out: {one}")]
  lines += [
    f"After round {comparison.round}, of {_counted(comparison.num_runs, 'run')}, "
    f"{_counted(len(comparison.settings), 'setting')}:",
    *(_named(number, setting) for number, setting in enumerate(comparison.settings, 1)),
    "",
    *_header("setting", columns),
  ]
  for number, setting in enumerate(comparison.settings, 1):
    means = [comparison.means[setting.name, comparison.round, one.name] for one in columns]
    lines += [
      _line(str(number), columns, [one.value for one in means]),
      _line("", columns, [one.standard_error for one in means], "±"),
    ]
  lines += _wrapped(wording.errors(comparison))
  if comparison.others:
    lines += _differences(comparison, columns)
  return "\n".join(lines)


def _differences(comparison: Comparison, columns: Sequence[_Column]) -> list[str]:
  place = list(comparison.settings).index(comparison.baseline) + 1
  lines = ["", f"More than setting {place}, the baseline:", *_header("setting", columns)]
  for number, setting in enumerate(comparison.settings, 1):
    if setting is comparison.baseline:
      continue
    found = [comparison.differences[setting.name, comparison.round, one.name] for one in columns]
    lines += [
      _line(str(number), columns, [one.estimate.value for one in found], "+"),
      _line("", columns, [one.estimate.standard_error for one in found], "±"),
    ]
    if any(one.test is not None for one in found):
      lines.append(_cells("p", [_p(one.corrected_p) for one in found]))
  said = (wording.pairs, wording.tests, wording.judges)
  return lines + [line for one in said for line in _wrapped(one(comparison))]


def _named(number: int, setting: Setting) -> str:
  seeds = ", ".join(map(str, setting.seeds))
  return f"{number:>3}  {setting.name} (seed{'s'[: len(setting.seeds) > 1]} {seeds})"


def _header(corner: str, columns: Sequence[_Column]) -> list[str]:
  upper, lower = zip(*(one.heading for one in columns), strict=True)
  return [_cells("", upper), _cells(corner, lower)]


def _line(corner: str, columns: Sequence[_Column], values: Sequence[float], sign: str = "") -> str:
  shown = [_shown(value, one.digits, sign) for one, value in zip(columns, values, strict=True)]
  return _cells(corner, shown)


def _cells(corner: str, cells: Sequence[str]) -> str:
  return f"{corner:>{_CORNER}}{''.join(f'{cell:>{_WIDTH_OF_A_COLUMN}}' for cell in cells)}".rstrip()


def _shown(value: float, digits: int, sign: str) -> str:
  """A number behind its sign, "-" where it is not known."""
  if math.isnan(value):
    return "" if sign == "±" else "-"
  return f"±{value:.{digits}f}" if sign == "±" else f"{value:{sign}.{digits}f}"


def _p(value: float) -> str:
  if math.isnan(value):
    return ""
  return "<0.001" if value < 0.001 else f"{value:.3f}"


def _counted(count: int, what: str) -> str:
  return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _wrapped(text: str) -> list[str]:
  return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
