"""What a format is, and tests of columns by which formats are told apart."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from apo_jax.data.candidates import Candidate, Kind
from apo_jax.data.columns import RowView
from apo_jax.data.formats.trees import Node

# The plain names and values of a row's columns.
Columns = Mapping[str, Any]

_ORDER: tuple[Kind, ...] = ("queries", "demonstrations", "preferences")


class Format(NamedTuple):
  """One format.

  Attributes:
    name: completes "rows in … form".
    gives: the most that its rows hold.
    detect: whether the columns are of this format.
    parse: the parts of a row; raises BadRow where it is not in this form.
    unneeded: columns that may go unread in this form, though they carry meaning in others.
  """

  name: str
  gives: Kind
  detect: Callable[[Columns], bool]
  parse: Callable[[RowView], Candidate | tuple[Node, ...]]
  unneeded: frozenset[str] = frozenset()

  def can_give(self, kind: Kind) -> bool:
    """Whether such records can be had of its rows."""
    return _ORDER.index(kind) <= _ORDER.index(self.gives)


def has(*names: str) -> Callable[[Columns], bool]:
  """Whether all these columns are there."""
  return lambda columns: columns.keys() >= set(names)


def any_of(columns: Columns, names: Sequence[str]) -> bool:
  """Whether one of these columns is there."""
  return any(name in columns for name in names)
