"""Histograms of lengths as text, with lines where limits lie."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int
from numpy import ndarray

WIDTH = 100  # columns of all that a preview says

_BARS = 8  # about so many up to the last limit
_NICE = (1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50, 64, 80)
_LONGEST_BAR = 50  # columns


def histogram(lengths: Int[ndarray, " N"], limits: Mapping[str, int]) -> list[str]:
  """The lines of a histogram: how many of the lengths lie between two bounds.

  Args:
    lengths: in tokens.
    limits: what the lengths are compared with, by name; a line stands behind each.
  """
  bounds = _bounds(int(lengths.max(initial=0)), sorted(limits.values()))
  # A bar holds the lengths above the bound before it, up to its own.
  counts = np.bincount(np.searchsorted(bounds, lengths), minlength=len(bounds))
  below = [0, *(bound + 1 for bound in bounds[:-1])]
  labels = [f"{first:,}-{last:,}" for first, last in zip(below, bounds, strict=True)]
  widest, number = max(map(len, labels)), len(f"{counts.max():,}")
  lines = []
  for label, bound, count in zip(labels, bounds, counts, strict=True):
    bar = "█" * -(-int(count) * _LONGEST_BAR // max(int(counts.max()), 1))
    lines.append(f"  {label:>{widest}}  {count:>{number},}  {bar}".rstrip())
    for name, limit in limits.items():
      if limit == bound:
        lines.append(f"  {'':>{widest}}  {'-' * (number + 2)} {name}, {limit:,}")
  return lines


def _bounds(longest: int, limits: Sequence[int]) -> list[int]:
  """Ascending last lengths of bars: even ones up to the last limit, then doubled."""
  top = limits[-1]
  step = _nice(top / _BARS)
  even = range(step, top, step)
  # What lies close to a limit gives way to it.
  bounds = {one for one in even if all(abs(one - limit) > step // 2 for limit in limits)}
  found = sorted(bounds | set(limits))
  while found[-1] < longest:
    found.append(2 * found[-1])
  return found


def _nice(wanted: float) -> int:
  """A round number of tokens, at least that many."""
  scale = 1
  while True:
    for one in _NICE:
      if one * scale >= wanted:
        return one * scale
    scale *= 10
