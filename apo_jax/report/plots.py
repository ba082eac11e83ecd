"""The figures of the report, from plain numbers to SVG.

Two colours mean the same in every figure: amber is the golden responses, blue is the policy's
samples. Where rounds share a panel they run from light green (first) to dark blue (last).
A panel that would be empty is left out; a figure without panels is None.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from apo_jax.report.figures import (
  LIGHT,
  TEXT,
  THIRD,
  WIDE_PANEL,
  grid,
  legend,
  round_axis,
  small,
  title,
)

GOLDEN = "#c98a0b"
SAMPLES = "#2c7fb8"
_MAX_POINTS = 400

Number = float | int | None


@dataclass(frozen=True)
class Line:
  """One line of a panel: its values, one a round, None where unknown.

  `errors` are their standard errors, drawn as a band; none where they are not given.
  """

  label: str
  values: Sequence[Number]
  color: str = SAMPLES
  dashed: bool = False
  errors: Sequence[Number] = ()


@dataclass(frozen=True)
class Panel:
  """A panel of lines over the rounds; `level` is a value to mark with a thin line."""

  title: str
  lines: Sequence[Line]
  level: float | None = None


@dataclass(frozen=True)
class Scored:
  """A response's reward and its true utility, and whether the policy's loss reads it."""

  reward: float
  utility: float
  is_read: bool


def round_color(index: int, count: int) -> str:
  """The colour of the index-th of `count` rounds, as a hexadecimal code."""
  position = 0.35 + 0.65 * (index / (count - 1) if count > 1 else 0.6)
  return to_hex(matplotlib.colormaps["YlGnBu"](position))


def curves(rounds: Sequence[int], panels: Sequence[Panel]) -> Figure | None:
  """Lines over the rounds, one panel a quantity.

  Args:
    rounds: the rounds' numbers; every line has one value for each. One round makes no curve.
    panels: what to draw; lines without a single value are left out.
  """
  drawn = [(panel, [line for line in panel.lines if any(_known(line.values))]) for panel in panels]
  drawn = [(panel, lines) for panel, lines in drawn if lines and len(rounds) > 1]
  figure, axes = grid(len(drawn), columns=4)
  for axis, (panel, lines) in zip(axes, drawn, strict=True):
    title(axis, panel.title, above_legend=True)
    for line in lines:
      axis.plot(
        rounds,
        _floats(line.values),
        color=line.color,
        linewidth=1.5,
        linestyle=(0, (3, 2)) if line.dashed else "-",
        # A single value would be invisible as a line.
        marker=None if line.dashed and sum(_known(line.values)) > 1 else "o",
        markersize=3.5,
        label=line.label,
      )
      if any(_known(line.errors)):
        values, errors = _floats(line.values), _floats(line.errors)
        band = {"color": line.color, "alpha": 0.16, "linewidth": 0}
        axis.fill_between(rounds, values - errors, values + errors, **band)
    if panel.level is not None:
      axis.axhline(panel.level, color=THIRD, linewidth=0.7, zorder=0)
    if len(lines) > 1:
      legend(axis)
    axis.margins(y=0.12)
    round_axis(axis, rounds)
  return figure


def reward_histograms(
  rounds: Mapping[int, tuple[Sequence[Number], Sequence[Number]]],
) -> Figure | None:
  """How the training reward is spread over golden responses and samples, one panel a round.

  Args:
    rounds: the golden responses' rewards and the samples', by round.
  """
  pairs = {
    number: (_finite(golden), _finite(samples)) for number, (golden, samples) in rounds.items()
  }
  pairs = {number: pair for number, pair in pairs.items() if pair[0].size or pair[1].size}
  if not pairs:
    return None
  everything = np.concatenate([values for pair in pairs.values() for values in pair])
  low, high = np.percentile(everything, [0.5, 99.5])
  if high - low < 1e-6:
    low, high = low - 0.5, high + 0.5
  bins = np.linspace(low, high, 31)
  figure, axes = grid(len(pairs), columns=4)
  for axis, (number, (golden, samples)) in zip(axes, pairs.items(), strict=True):
    for values, color in ((samples, SAMPLES), (golden, GOLDEN)):
      if values.size:
        # What lies outside the shared axis is counted in its outermost bins.
        shares = np.histogram(values.clip(low, high), bins)[0] / values.size
        axis.stairs(shares, bins, fill=True, color=color, alpha=0.45)
        axis.stairs(shares, bins, color=color, linewidth=1.0)
        axis.axvline(float(values.mean()), color=color, linewidth=1.2, linestyle=(0, (3, 2)))
    margin = (
      f", margin {golden.mean() - samples.mean():+.2f}" if golden.size and samples.size else ""
    )
    title(axis, f"Round {number}{margin}")
    axis.set_xlim(low, high)
  top = max(axis.get_ylim()[1] for axis in axes)
  for axis in axes:
    axis.set_ylim(0, top)
    axis.set_xlabel("reward", **small())
  axes[0].set_ylabel("share", **small())
  return figure


def training_curves(
  phases: Mapping[str, Mapping[int, tuple[Sequence[int], Sequence[Number]]]],
  colors: Mapping[int, str],
) -> Figure | None:
  """The loss of every phase, one panel a kind of phase, the rounds over each other.

  Args:
    phases: steps and losses by phase and round.
    colors: the rounds' colours.
  """
  figure, axes = grid(len(phases), columns=3, panel=WIDE_PANEL)
  for axis, (phase, rounds) in zip(axes, phases.items(), strict=True):
    title(axis, phase)
    for number, (steps, losses) in sorted(rounds.items()):
      thin_steps, thin_losses = _thinned(steps, losses)
      marker = "o" if len(thin_steps) == 1 else None
      axis.plot(
        thin_steps, thin_losses, color=colors[number], linewidth=1.2, marker=marker, markersize=3
      )
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_xlabel("step", **small())
  if axes:
    axes[0].set_ylabel("loss", **small())
  return figure


def reliability(
  diagrams: Mapping[int, tuple[Sequence[Number], Sequence[Number], Sequence[int], Number]],
  colors: Mapping[int, str],
) -> Figure | None:
  """Whether the reward model is right as often as it is confident, one panel a round.

  Args:
    diagrams: by round, the confidence, accuracy and number of pairs of every bin, and the ECE.
    colors: the rounds' colours.
  """
  figure, axes = grid(len(diagrams), columns=4, panel=(2.5, 2.5))
  for axis, (number, (confidence, accuracy, count, ece)) in zip(
    axes, diagrams.items(), strict=True
  ):
    title(axis, f"Round {number}" + ("" if ece is None else f", ECE {ece:.3f}"))
    axis.plot([0, 1], [0, 1], color=THIRD, linewidth=0.8)
    filled = np.array(count) > 0
    x, y = _floats(confidence)[filled], _floats(accuracy)[filled]
    size = np.array(count)[filled]
    axis.plot(x, y, color=colors[number], linewidth=1.0)
    axis.scatter(x, y, s=6 + 60 * size / max(size.max(), 1), color=colors[number], alpha=0.75)
    axis.set_xlim(-0.03, 1.03)
    axis.set_ylim(-0.03, 1.03)
    axis.set_aspect("equal")
    axis.set_xlabel("predicted probability", **small())
  if axes:
    axes[0].set_ylabel("share that was right", **small())
  return figure


def hacking(
  scored: Mapping[int, Sequence[Sequence[Scored]]],
  path: Sequence[tuple[int, float, float]],
  colors: Mapping[int, str],
) -> Figure | None:
  """Whether the true utility follows the rewards: up to three panels.

  Args:
    scored: by round, the samples of every query with their training reward and utility.
    path: round, mean testing reward and mean true utility of the policies.
    colors: the rounds' colours.
  """
  scored = {number: [item for item in items if item] for number, items in scored.items()}
  scored = {number: items for number, items in scored.items() if items}
  # Of what the loss does not read, it chooses nothing.
  chosen_from = {
    number: [item for item in items if any(sample.is_read for sample in item)]
    for number, items in scored.items()
  }
  chosen_from = {number: items for number, items in chosen_from.items() if items}
  panels = bool(scored) + bool(chosen_from) + bool(path)
  figure, axes = grid(panels, columns=3, panel=WIDE_PANEL)
  if scored:
    _utility_by_reward(axes[0], scored, colors)
  if chosen_from:
    _utility_of_the_chosen(axes[1], chosen_from)
  if path:
    axis = axes[-1]
    title(axis, "Policies: utility by testing reward", above_legend=True)
    _, rewards, utilities = zip(*path, strict=True)
    axis.plot(rewards, utilities, color=LIGHT, linewidth=1.2, zorder=1)
    for number, reward, utility in path:
      axis.scatter([reward], [utility], color=colors[number], s=28, zorder=2)
      axis.annotate(
        str(number), (reward, utility), (4, 4), textcoords="offset points", fontsize=8, color=TEXT
      )
    axis.margins(0.15)
    axis.set_xlabel("mean testing reward", **small())
    axis.set_ylabel("mean true utility", **small())
  return figure


def _utility_by_reward(
  axis: Axes, scored: Mapping[int, Sequence[Sequence[Scored]]], colors: Mapping[int, str]
) -> None:
  """Mean utility in bins of equally many samples, ordered by training reward."""
  title(axis, "Samples: utility by training reward", above_legend=True)
  for number, items in scored.items():
    samples = sorted((sample for item in items for sample in item), key=lambda s: s.reward)
    bins = np.array_split(np.arange(len(samples)), max(1, min(10, len(samples) // 5)))
    x = [np.mean([samples[index].reward for index in members]) for members in bins]
    y = [np.mean([samples[index].utility for index in members]) for members in bins]
    axis.plot(x, y, color=colors[number], linewidth=1.3, marker="o", markersize=3)
  axis.set_xlabel("training reward", **small())
  axis.set_ylabel("mean true utility", **small())


def _utility_of_the_chosen(axis: Axes, scored: Mapping[int, Sequence[Sequence[Scored]]]) -> None:
  """What choosing by reward gains over a random sample, and what the best choice would gain.

  The chosen one is the first of the highest reward among those that the loss reads; every query has
  such a one.
  """
  title(axis, "Samples: utility of the chosen one", above_legend=True)
  rounds = list(scored)
  best, chosen, mean = [], [], []
  for items in scored.values():
    best.append(np.mean([max(sample.utility for sample in item) for item in items]))
    chosen.append(np.mean([_chosen(item).utility for item in items]))
    mean.append(np.mean([np.mean([sample.utility for sample in item]) for item in items]))
  for label, values, color, style in (
    ("best", best, THIRD, (0, (3, 2))),
    ("by reward", chosen, SAMPLES, "-"),
    ("average", mean, THIRD, "-"),
  ):
    axis.plot(
      rounds,
      values,
      color=color,
      linewidth=1.4,
      linestyle=style,
      marker="o",
      markersize=3,
      label=label,
    )
  legend(axis)
  round_axis(axis, rounds)


def _chosen(samples: Sequence[Scored]) -> Scored:
  """The first of the highest reward among those that the loss reads."""
  return max((sample for sample in samples if sample.is_read), key=lambda sample: sample.reward)


def _known(values: Sequence[Number]) -> list[bool]:
  return [value is not None for value in values]


def _floats(values: Sequence[Number]) -> np.ndarray:
  return np.array([math.nan if value is None else value for value in values], dtype=float)


def _finite(values: Sequence[Number]) -> np.ndarray:
  floats = _floats(values)
  return floats[np.isfinite(floats)]


def _thinned(steps: Sequence[int], losses: Sequence[Number]) -> tuple[np.ndarray, np.ndarray]:
  """Means over runs of neighbouring steps, so that a long phase does not make a large page."""
  x, y = _floats(steps), _floats(losses)
  parts = min(len(x), _MAX_POINTS)
  return (
    np.array([part.mean() for part in np.array_split(x, parts)]),
    np.array([part.mean() for part in np.array_split(y, parts)]),
  )
