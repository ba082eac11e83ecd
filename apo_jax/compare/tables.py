"""The tables of the page: settings, their numbers, and what each has more than the baseline."""

import html
import math
from collections.abc import Callable, Mapping, Sequence

from apo_jax.compare import wording
from apo_jax.compare.comparison import Comparison
from apo_jax.compare.numbers import Difference, is_tested
from apo_jax.compare.settings import Setting
from apo_jax.compare.statistics import Estimate
from apo_jax.config.visible import visible
from apo_jax.report.elements import rounded, section
from apo_jax.report.tables import COLUMNS, MAIN_COLUMNS, Column, estimate, table

_FOUND = 0.05  # a corrected p below it is set in bold


def settings_table(comparison: Comparison, colors: Mapping[str, str]) -> str:
  """The settings with the fields in which their configs differ, their seeds and their runs."""
  fields = list(dict.fromkeys(name for one in comparison.settings for name in one.fields))
  head = "".join(f"<th>{html.escape(name)}</th>" for name in ("setting", "seeds", *fields))
  rows = ""
  for setting in comparison.settings:
    cells = [", ".join(map(str, setting.seeds))]
    cells += [setting.fields.get(name, "–") for name in fields]
    rows += f"<tr><th>{_named(setting, colors)}</th>"
    rows += "".join(f"<td>{html.escape(visible(cell))}</td>" for cell in cells) + "</tr>"
  said = (
    "Runs with equal configs are one setting, whatever their seeds, devices, checkpoints, logging "
    f"and number of rounds. The baseline is {html.escape(comparison.baseline.name)}. "
    "– stands where a setting has no such field. Below, settings are called by what tells them "
    "apart."
  )
  runs = [f"{setting.label}: {run.path}" for setting in comparison.settings for run in setting.runs]
  branched = [
    f"{run.name}: {run.branch.sentence}"
    for setting in comparison.settings
    for run in setting.runs
    if run.branch is not None
  ]
  lists = _folded("Runs", runs)
  if branched:
    lists = f"<h3>Branched</h3>{_list(branched)}{lists}"
  if comparison.left_out:
    lists = f"<h3>Left out</h3>{_list(comparison.left_out)}{lists}"
  return section(
    "Settings, and how their configs differ",
    said,
    f'<div class="wide"><table class="rounds settings"><thead><tr>{head}</tr></thead>'
    f"<tbody>{rows}</tbody></table></div>{lists}",
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
  further = [known.get(name, _column(name)) for name in names]
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


def _column(name: str) -> Column:
  return Column(html.escape(name.replace("_", " ")), name, 1 if name.endswith("_length") else 3)


def _named(setting: Setting, colors: Mapping[str, str]) -> str:
  dot = f'<i style="background:{colors[setting.name]}"></i>'
  return f'<span class="named">{dot}{html.escape(visible(setting.label))}</span>'


def _list(items: Sequence[str]) -> str:
  return f"<ul>{''.join(f'<li>{html.escape(visible(item))}</li>' for item in items)}</ul>"


def _folded(title: str, items: Sequence[str]) -> str:
  return f"<details><summary>{title}</summary>{_list(items)}</details>"


def _estimate(one: Estimate, digits: int, signed: bool = False) -> str:
  return estimate(_or_none(one.value), _or_none(one.standard_error), digits, signed)


def _or_none(value: float) -> float | None:
  return None if math.isnan(value) else value


def _p(difference: Difference, name: str) -> str:
  """The corrected p-value, "not tested" where a number that is tested could not be."""
  if difference.test is not None:
    least = "&lt;&#8239;0.001" if difference.corrected_p < 0.001 else ""
    text = f"p&#8239;{least or rounded(difference.corrected_p, 3)}"
    return f"<small>{f'<b>{text}</b>' if difference.corrected_p < _FOUND else text}</small>"
  return "<small>no test</small>" if is_tested(name) and difference.estimate.count else ""
