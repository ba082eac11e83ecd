"""A comparison as one page, with CSV files of its numbers beside it.

The page has no scripts and loads nothing.
"""

import html
from collections.abc import Mapping
from pathlib import Path

from apo_jax.compare import plots
from apo_jax.compare.comparison import Comparison
from apo_jax.compare.curves import PhaseCurves, round_curve, seed_curves, training_curves
from apo_jax.compare.files import write_csv
from apo_jax.compare.numbers import is_tested
from apo_jax.compare.samples import samples_section
from apo_jax.compare.tables import differences_tables, numbers_tables, settings_table
from apo_jax.logs.files import write_text
from apo_jax.report.elements import document, facts_list, figure_section, legend, section
from apo_jax.report.figures import svg

PAGE = "comparison.html"


def write(comparison: Comparison, output: Path) -> Path:
  """Writes the page and the CSV files of a comparison; returns the page's path.

  The directory is made, and files of an older comparison in it are replaced.
  """
  training = training_curves(comparison.settings)
  content = page(comparison, training)
  write_csv(comparison, training, output)
  write_text(output / PAGE, content)
  return output / PAGE


def page(comparison: Comparison, training: Mapping[str, PhaseCurves]) -> str:
  """The whole page as HTML."""
  names = [setting.name for setting in comparison.settings]
  colors = plots.setting_colors(names)
  samples = samples_section(
    comparison, colors
  )  # first: figures take long, and a file may be broken
  key = legend([(setting.label, colors[setting.name]) for setting in comparison.settings])
  heading = f"{len(names)} setting{'s'[: len(names) > 1]}, {comparison.num_runs} runs"
  facts = [
    ("Baseline", comparison.baseline.label),
    ("Round", str(comparison.round)),
    ("Seeds", ", ".join(map(str, sorted({s for one in comparison.settings for s in one.seeds})))),
    ("Tests", str(comparison.num_tests)),
  ]
  return document(
    "Comparison: adversarial preference optimization",
    heading,
    facts_list(facts),
    (
      settings_table(comparison, colors),
      numbers_tables(comparison, colors),
      differences_tables(comparison, colors),
      _difference_figure(comparison, colors),
      _setting_by_setting(comparison, colors),
      _over_the_rounds(comparison, colors, key),
      *_training(training, colors, key),
      samples,
    ),
  )


def _tested_numbers(comparison: Comparison) -> list[str]:
  return [name for name in comparison.numbers if is_tested(name)]


def _difference_figure(comparison: Comparison, colors: Mapping[str, str]) -> str:
  labels = {setting.name: setting.label for setting in comparison.others}
  panels = {
    number.replace("_", " "): {
      name: comparison.differences[name, comparison.round, number].estimate[:2] for name in labels
    }
    for number in _tested_numbers(comparison)
  }
  return figure_section(
    plots.differences(panels, colors, labels),
    "differences",
    "Differences, drawn",
    "Points are the differences above, lines reach one standard error to both sides.",
    "",
  )


def _setting_by_setting(comparison: Comparison, colors: Mapping[str, str]) -> str:
  labels = {setting.name: setting.label for setting in comparison.settings}
  shown = ""
  for number in _tested_numbers(comparison):
    figure = plots.setting_by_setting(
      comparison.rounds,
      {setting.name: round_curve(comparison, setting, number) for setting in comparison.settings},
      {setting.name: seed_curves(comparison, setting, number) for setting in comparison.settings},
      colors,
      labels,
    )
    if figure is not None:
      heading = html.escape(number.replace("_", " "))
      shown += f"<h3>{heading}</h3>{svg(figure, f'setting-{number}', heading)}"
  if not shown:
    return ""
  return section(
    "Setting by setting",
    "Thin lines are seeds, the thick one is their mean with its band; the other settings’ means "
    "are grey.",
    shown,
  )


def _over_the_rounds(comparison: Comparison, colors: Mapping[str, str], key: str) -> str:
  panels = {
    number.replace("_", " "): {
      setting.name: round_curve(comparison, setting, number) for setting in comparison.settings
    }
    for number in comparison.numbers
  }
  return figure_section(
    plots.over_rounds(comparison.rounds, panels, colors),
    "rounds",
    "Over the rounds",
    "Every number of evaluation.json; bands as said above.",
    key,
  )


def _training(
  training: Mapping[str, PhaseCurves], colors: Mapping[str, str], key: str
) -> list[str]:
  """A section a phase."""
  return [
    figure_section(
      plots.over_updates(curves, colors),
      f"phase-{place}",
      f"Phase {html.escape(phase.replace('_', ' '))}",
      "Means over seeds, with bands of one standard error between them."
      + (" Thin lines end rounds." if curves.round_ends else ""),
      key,
    )
    for place, (phase, curves) in enumerate(training.items())
  ]
