"""The figures of docs/does_apo_help.md: a number by round, one panel a loss, bands over seeds."""

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from apo_jax.logs.files import write_text
from apo_jax.report.figures import WIDE_PANEL, grid, legend, round_axis, small, title
from benchmarks.does_apo_help.estimates import arm, mean_of
from benchmarks.does_apo_help.parts import FIGURES, LOSSES, MODES
from benchmarks.does_apo_help.results import Results

_COLORS = {"adversarial": "#2c7fb8", "preferences_only": "#e0892b", "fixed": "#d1495b"}


def write_plots(results: Results, folder: Path) -> None:
  """Writes an SVG for each of `FIGURES` beside the results."""
  for name, (number, label) in FIGURES.items():
    write_text(folder / f"{name}.svg", _svg(by_round(results, number, label), name))


def by_round(results: Results, number: str, label: str) -> Figure:
  """Mean and standard error over seeds by round, with each seed as a thin line."""
  figure, axes = grid(len(LOSSES), columns=len(LOSSES), panel=WIDE_PANEL)
  rounds = sorted({row.round for row in results.rows if number in row.numbers})
  for axis, (loss, loss_name) in zip(axes, LOSSES.items(), strict=True):
    title(axis, loss_name, above_legend=True)
    for mode, mode_name in MODES.items():
      seeds = [results.by_seed(arm(mode, loss), round, number) for round in rounds]
      known = [(round, one) for round, one in zip(rounds, seeds, strict=True) if one]
      if not known:
        continue
      estimates = [mean_of(one) for _, one in known]
      x = [round for round, _ in known]
      values, errors = np.array([(one.value, one.standard_error) for one in estimates]).T
      color = _COLORS[mode]
      axis.plot(x, values, color=color, marker="o", markersize=3, linewidth=1.4, label=mode_name)
      axis.fill_between(x, values - errors, values + errors, color=color, alpha=0.2, linewidth=0)
      for seed in sorted({seed for _, one in known for seed in one}):
        line = [one.get(seed, np.nan) for _, one in known]
        axis.plot(x, line, color=color, linewidth=0.5, alpha=0.45)
    if rounds:
      round_axis(axis, rounds)
    if axis.get_legend_handles_labels()[0]:
      legend(axis)
  axes[0].set_ylabel(label, **small())
  limits = [axis.get_ylim() for axis in axes if axis.lines]
  for axis in axes if limits else ():
    axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
  return figure


def _svg(figure: Figure, name: str) -> str:
  figure.patch.set(alpha=1, facecolor="white")  # readable on a dark page too
  buffer = io.StringIO()
  with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
  return buffer.getvalue()
