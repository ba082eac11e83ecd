"""What a source gave: its formats and columns, how many rows became records, what was dropped."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from apo_jax.config.visible import visible

# How much of the bad rows a sentence shows: the first of so many reasons, each so many characters.
_SHOWN_REASONS = 3
_SHOWN_LENGTH = 90
# How many columns a sentence names.
_SHOWN_NAMES = 12


@dataclasses.dataclass(frozen=True)
class SourceReport:
  """One field of config.data after loading.

  Attributes:
    field: its name, "preferences", say.
    location: the path or URI, or "config.data.preferences" where the field is taken from them.
    format: the format of most rows.
    rows: all rows, bad ones included; of the preferences those that became records.
    records: the rows that became records.
    dropped: how many rows were bad, by reason.
    examples: the first three bad rows of each reason, with their numbers in the file, from 1.
    sides: the records in use on each side of the split that needs some.
    left_out: how many good records are not in use, by why they are not.
    formats: how many rows are in each format, by its name; a row of no known format is in none.
    read: the columns that records were made from, in the order of their first row.
    unread: the columns with some value that no row was read from; of messages, as
      "chosen.thinking", what they hold beside role and text.
    joined: the rows that are part of another row's record: answers of one query, a row each.
  """

  field: str
  location: str
  format: str
  rows: int
  records: int
  dropped: dict[str, int]
  examples: dict[str, tuple[str, ...]]
  sides: dict[str, int] = dataclasses.field(default_factory=dict)
  left_out: dict[str, int] = dataclasses.field(default_factory=dict)
  formats: dict[str, int] = dataclasses.field(default_factory=dict)
  read: tuple[str, ...] = ()
  unread: tuple[str, ...] = ()
  joined: int = 0

  def to_dict(self) -> dict[str, Any]:
    """The report in JSON's types."""
    examples = {reason: list(rows) for reason, rows in self.examples.items()}
    columns = {"read": list(self.read), "unread": list(self.unread)}
    return {**dataclasses.asdict(self), "examples": examples, **columns}

  def sentence(self) -> str:
    """The report on one line."""
    parts = [
      f"config.data.{self.field}: {self.rows:,} rows in {self._forms()} from {self.location},"
      f" {sum(self.sides.values()):,} used ({_counts(self.sides)})"
    ]
    if self.joined:
      parts.append(f"{self.joined:,} joined to others of their query")
    if self.read:
      parts.append(f"read: {listing(self.read)}")
    if self.unread:
      parts.append(f"not read: {listing(self.unread)}")
    if self.dropped:
      total = sum(self.dropped.values())
      parts.append(f"{total:,} dropped: {self._dropped()}")
    if self.left_out:
      parts.append(f"left out: {_counts(self.left_out)}")
    return "; ".join(parts) + "."

  def _forms(self) -> str:
    if len(self.formats) < 2:
      return f"{self.format} form"
    return f"{len(self.formats)} forms ({_counts(self.formats)})"

  def _dropped(self) -> str:
    parts = []
    for index, (reason, number) in enumerate(self.dropped.items()):
      first = f" ({_short(self.examples[reason][0])})" if index < _SHOWN_REASONS else ""
      parts.append(f"{number:,} {reason}{first}")
    return ", ".join(parts)


def listing(names: Sequence[str]) -> str:
  """The first names, and how many there are beside them."""
  more = len(names) - _SHOWN_NAMES
  shown = ", ".join(visible(name, _SHOWN_LENGTH) for name in names[:_SHOWN_NAMES])
  return shown + (f" and {more} more" if more > 0 else "")


def _short(example: str) -> str:
  shown = visible(example)
  return shown if len(shown) <= _SHOWN_LENGTH else f"{shown[: _SHOWN_LENGTH - 1]}…"


def _counts(numbers: dict[str, int]) -> str:
  return ", ".join(f"{number:,} {name}" for name, number in numbers.items())
