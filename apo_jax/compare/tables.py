"""The tables of the page: settings, their numbers, and what each has more than the baseline."""

import html
import math
from collections.abc import Callable, Mapping, Sequence

from apo_jax.compare import wording
from apo_jax.compare.comparison import Comparison
from apo_jax.compare.numbers import Difference, is_tested
from apo_jax.compare.settings import Setting
from apo_jax.compare.statistics import Estimate
from apo_jax.report.elements import rounded, section
from apo_jax.report.tables import COLUMNS, MAIN_COLUMNS, Column, estimate, table

_FOUND = 0.05  # a corrected p below it is set in bold


def settings_table(comparison: Comparison, colors: Mapping[str, str]) -> str:
  """The settings with the fields in which their configs differ, their seeds and their runs."""
  fields = list(dict.fromkeys(name for one in comparison.settings for name in one.fields))
  head = "".join(f"<th>{html.escape(name)}</th>" for name in ("setting", *fields, "seeds", "runs"))
  rows = ""
  for setting in comparison.settings:
    cells = [setting.fields.get(name, "–") for name in fields]
    cells += [", ".join(map(str, setting.seeds)), ", ".join(run.name for run in setting.runs)]
    rows += f"<tr><th>{_named(setting, colors)}</th>"
    rows += "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
  said = (
    "Runs with equal configs are one setting, whatever their seeds, devices, checkpoints, logging "
    f"and number of rounds. The baseline is {html.escape(comparison.baseline.name)}. "
    "– stands where a setting has no such field."
  )
  left_out = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in comparison.left_out)
  if left_out:
    left_out = f"<h3>Left out</h3><ul>{left_out}</ul>"
  return section(
    "Settings, and how their configs differ",
    said,
    f'<div class="wide"><table class="rounds settings"><thead><tr>{head}</tr></thead>'
    f"<tbody>{rows}</tbody></table></div>{left_out}",
  )


def numbers_tables(comparison: Comparison, colors: Mapping[str, str]) -> str:
  """Every number of every setting after the round."""

  def cell(setting: Setting, column: Column) -> str:
    one = comparison.means[setting.name, comparison.round, column.key]
    return _estimate(one, column.digits)

  return section(
    f"After round {comparison.round}",
    html.escape(wording.errors(comparison)),
    _tables(comparison, comparison.settings, colors, cell),
  )


def differences_tables(comparison: Comparison, colors: Mapping[str, str]) -> str:
  """What every setting has more than the baseline; nothing where there is one setting."""
  if not comparison.others:
    return ""

  def cell(setting: Setting, column: Column) -> str:
    found = comparison.differences[setting.name, comparison.round, column.key]
    return _estimate(found.estimate, column.digits, signed=True) + _p(found, column.key)

  said = " ".join(one(comparison) for one in (wording.pairs, wording.tests, wording.judges))
  return section(
    f"Differences to {html.escape(comparison.baseline.name)}",
    html.escape(said),
    _tables(comparison, comparison.others, colors, cell),
  )


def _tables(
  comparison: Comparison,
  settings: Sequence[Setting],
  colors: Mapping[str, str],
  cell: Callable[[Setting, Column], str],
) -> str:
  """What a game is about in one table, all other numbers in a second."""
  known = {column.key: column for column in COLUMNS}
  main = [column for column in MAIN_COLUMNS if column.key in comparison.numbers]
  names = [name for name in comparison.numbers if name not in {column.key for column in main}]
  further = [known.get(name, Column(html.escape(name.replace("_", " ")), name)) for name in names]
  # What is tested belongs in front, such as the numbers of a run's own evaluations.
  main += [column for column in further if is_tested(column.key)]
  further = [column for column in further if not is_tested(column.key)]
  return "<br>".join(
    table(
      "setting",
      columns,
      [
        (_named(setting, colors), [cell(setting, column) for column in columns])
        for setting in settings
      ],
    )
    for columns in (main, further)
    if columns
  )


def _named(setting: Setting, colors: Mapping[str, str]) -> str:
  return f'<i class="dot" style="background:{colors[setting.name]}"></i>{html.escape(setting.name)}'


def _estimate(one: Estimate, digits: int, signed: bool = False) -> str:
  return estimate(_or_none(one.value), _or_none(one.standard_error), digits, signed)


def _or_none(value: float) -> float | None:
  return None if math.isnan(value) else value


def _p(difference: Difference, name: str) -> str:
  """The corrected p-value, "not tested" where a number that is tested could not be."""
  if difference.test is not None:
    text = f"p&#8239;{rounded(difference.corrected_p, 3)}"
    return f"<small>{f'<b>{text}</b>' if difference.corrected_p < _FOUND else text}</small>"
  return "<small>no test</small>" if is_tested(name) and difference.estimate.count else ""
