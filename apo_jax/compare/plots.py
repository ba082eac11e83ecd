"""The figures of a comparison: every setting has one colour in all of them."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from apo_jax.compare.curves import Curve, PhaseCurves
from apo_jax.report.figures import THIRD, grid, round_axis, small, title

# Ten that are told apart, also where two lines cross.
_COLORS = (
  "#2c7fb8",
  "#d1495b",
  "#3a9d5d",
  "#e0892b",
  "#7b5ea7",
  "#14a3a8",
  "#8c5a3c",
  "#d977b5",
  "#5b6470",
  "#9a9a1f",
)
_BEHIND = "#d5d8dd"  # the other settings, where one is shown


def setting_colors(names: Sequence[str]) -> dict[str, str]:
  """A colour for each setting, as a hexadecimal code."""
  if len(names) <= len(_COLORS):
    return dict(zip(names, _COLORS, strict=False))
  places = np.linspace(0.05, 0.95, len(names))
  return {name: to_hex(matplotlib.colormaps["turbo"](x)) for name, x in zip(names, places)}  # noqa: B905


def over_rounds(
  rounds: Sequence[int], panels: Mapping[str, Mapping[str, Curve]], colors: Mapping[str, str]
) -> Figure | None:
  """All settings over each other, one panel a number; one round makes no curve.

  Args:
    rounds: all of them.
    panels: curves by the panel's title and the setting's name.
    colors: of the settings.
  """
  figure, axes = grid(len(panels) if len(rounds) > 1 else 0, columns=4)
  for axis, (name, curves) in zip(axes, panels.items(), strict=False):
    title(axis, name)
    _draw_all(axis, curves, colors, marker="o")
    round_axis(axis, rounds)
  return figure


def over_updates(phase: PhaseCurves, colors: Mapping[str, str]) -> Figure | None:
  """All settings over each other, one panel a metric of the phase; thin lines end rounds."""
  figure, axes = grid(len(phase.metrics), columns=4)
  for axis, (name, curves) in zip(axes, phase.metrics.items(), strict=True):
    title(axis, name.replace("_", " "))
    for end in phase.round_ends:
      axis.axvline(end, color=THIRD, linewidth=0.5, zorder=0)
    single = all(len(curve.x) == 1 for curve in curves.values())
    _draw_all(axis, curves, colors, marker="o" if phase.by_rounds or single else None)
    if phase.by_rounds:
      round_axis(axis, sorted({int(x) for curve in curves.values() for x in curve.x}))
    else:
      axis.set_xlabel("update", **small())
  return figure


def setting_by_setting(
  rounds: Sequence[int],
  curves: Mapping[str, Curve],
  seeds: Mapping[str, Sequence[Curve]],
  colors: Mapping[str, str],
  labels: Mapping[str, str],
) -> Figure | None:
  """One number, one panel a setting, with its seeds as thin lines and the other settings in grey.

  Args:
    rounds: all of them; one makes no curve.
    curves: of the settings.
    seeds: a curve for each of a setting's seeds.
    colors: of the settings.
    labels: what the panels are called.
  """
  figure, axes = grid(len(curves) if len(rounds) > 1 else 0, columns=5, panel=(2.0, 1.75))
  for axis, (name, curve) in zip(axes, curves.items(), strict=False):
    title(axis, _shortened(labels[name]))
    for other, behind in curves.items():
      if other != name:
        axis.plot(behind.x, behind.values, color=_BEHIND, linewidth=1.0, zorder=1)
    for seed in seeds[name]:
      axis.plot(seed.x, seed.values, color=colors[name], linewidth=0.6, alpha=0.55, zorder=2)
    _draw(axis, curve, colors[name], marker="o", band=0.22)
    round_axis(axis, rounds)
  if axes:
    low, high = zip(*(axis.get_ylim() for axis in axes), strict=True)
    for axis in axes:
      axis.set_ylim(min(low), max(high))
  return figure


def differences(
  panels: Mapping[str, Mapping[str, tuple[float, float]]],
  colors: Mapping[str, str],
  labels: Mapping[str, str],
) -> Figure | None:
  """What settings have more than the baseline, one panel a number, with standard errors.

  Args:
    panels: difference and standard error by the panel's title and the setting's name; what is nan
      is not drawn.
    colors: of the settings.
    labels: what they are called.
  """
  names = list(labels)
  height = 0.75 + 0.2 * len(names)
  figure, axes = grid(len(panels) if names else 0, columns=4, panel=(2.5, height))
  if figure is not None:
    figure.get_layout_engine().set(w_pad=0.12)  # the page's font may be wider than is reckoned with
  for place, (axis, (name, values)) in enumerate(zip(axes, panels.items(), strict=False)):
    title(axis, name)
    for line, setting in enumerate(names):
      value, error = values[setting]
      whisker = None if np.isnan(error) else error
      look = {"color": colors[setting], "markersize": 4.5, "elinewidth": 1.5}
      axis.errorbar(value, line, xerr=whisker, fmt="o", **look)
    axis.axvline(0, color=THIRD, linewidth=0.8, zorder=0)
    first_of_row = place % 4 == 0
    axis.set_yticks(range(len(names)), [_shortened(labels[one]) for one in names])
    axis.tick_params(axis="y", labelleft=first_of_row)
    for label in axis.get_yticklabels():
      label.set_parse_math(False)
    axis.set_ylim(len(names) - 0.5, -0.5)
  return figure


def _draw_all(
  axis: Axes, curves: Mapping[str, Curve], colors: Mapping[str, str], marker: str | None
) -> None:
  # Many bands over each other are grey: the more settings, the lighter each.
  band = 0.18 if len(curves) <= 4 else 0.10
  for name, curve in curves.items():
    _draw(axis, curve, colors[name], marker, band)
  axis.margins(y=0.12)


def _draw(axis: Axes, curve: Curve, color: str, marker: str | None, band: float) -> None:
  axis.plot(curve.x, curve.values, color=color, linewidth=1.3, marker=marker, markersize=2.8)
  if np.isfinite(curve.errors).any():
    low, high = curve.values - curve.errors, curve.values + curve.errors
    axis.fill_between(curve.x, low, high, color=color, alpha=band, linewidth=0)


def _shortened(text: str, most: int = 27) -> str:
  return text if len(text) <= most else f"{text[: most - 1]}…"
