"""What the figures of a page are drawn on: a grid of panels, titles, legends, and the SVG."""

import io
import math
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

THIRD = "#8a8f98"  # baselines and what is neither golden nor sampled
TEXT = "#30343b"
LIGHT = "#e3e5e8"
PANEL = (2.5, 1.85)  # inches; four panels fill the page
WIDE_PANEL = (3.33, 2.2)  # three panels fill the page
_PIXELS_PER_INCH = 108


def svg(figure: Figure, name: str, description: str) -> str:
  """The figure as an SVG element to put into a page.

  Args:
    figure: the figure.
    name: different for every figure of a page: identifiers within the SVG are made from it.
    description: what the figure shows, for those who cannot see it; safe text of our own.
  """
  buffer = io.StringIO()
  # Text stays text, so that the page's font is used and it can be searched.
  with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
  text = buffer.getvalue()
  # Our own opening tag, because matplotlib's has a fixed size and no description.
  body = text[text.index("<svg") :].split(">", 1)[1]
  width, height = figure.get_size_inches()
  return (
    f'<svg role="img" aria-label="{description}" viewBox="0 0 {width * 72:g} {height * 72:g}" '
    f'style="width:{width * _PIXELS_PER_INCH:.0f}px" '
    f'xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
  )


def grid(
  count: int, columns: int, panel: tuple[float, float] = PANEL
) -> tuple[Figure | None, list[Axes]]:
  """A figure with exactly `count` panels, row by row; None and no panels where the count is 0."""
  if count == 0:
    return None, []
  columns = min(columns, count)
  rows = math.ceil(count / columns)
  figure = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
  figure.patch.set_alpha(0)
  figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.06)
  places = figure.add_gridspec(rows, columns)
  axes = [figure.add_subplot(places[index // columns, index % columns]) for index in range(count)]
  for axis in axes:
    axis.patch.set_alpha(0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#b9bdc4")
    axis.tick_params(labelsize=7.5, colors="#b9bdc4", labelcolor=TEXT, length=2.5, pad=2)
    axis.grid(color=LIGHT, linewidth=0.5)
    axis.set_axisbelow(True)
    for one in (axis.xaxis, axis.yaxis):
      one.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
  return figure, axes


def title(axis: Axes, text: str, above_legend: bool = False) -> None:
  """The name of a panel; `above_legend` leaves room for a legend of one line."""
  pad = 17 if above_legend else 5
  # A phase's name is not ours: a dollar sign in it must not start a formula.
  axis.set_title(
    text, loc="left", fontsize=8.5, fontweight="bold", color=TEXT, pad=pad, parse_math=False
  )


def legend(axis: Axes) -> None:
  """The names of the lines, between title and panel, where no line can run through them."""
  axis.legend(
    loc="lower left",
    bbox_to_anchor=(0, 1),
    ncols=3,
    fontsize=7.5,
    frameon=False,
    labelcolor=TEXT,
    handlelength=1.2,
    handletextpad=0.4,
    columnspacing=0.9,
    borderpad=0,
    borderaxespad=0.3,
  )


def small() -> dict[str, object]:
  """How the labels of axes are written."""
  return {"fontsize": 7.5, "color": TEXT, "labelpad": 2}


def round_axis(axis: Axes, rounds: Sequence[int]) -> None:
  """An axis of whole rounds."""
  axis.set_xlim(min(rounds) - 0.3, max(rounds) + 0.3)
  # At most seven whole numbers.
  axis.set_xticks(range(min(rounds), max(rounds) + 1, 1 + (max(rounds) - min(rounds)) // 7))
  axis.set_xlabel("round", **small())
