"""What a source gave: its format, how many rows became records, and what was dropped and why."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class SourceReport:
  """One field of config.data after loading.

  Attributes:
    field: its name, "preferences", say.
    location: the path or URI.
    format: the format's name.
    rows: all rows, bad ones included.
    records: the rows that became records.
    dropped: how many rows were bad, by reason.
    examples: the first three bad rows of each reason, with their numbers, counted from 1.
    sides: the records in use on each side of the split.
    left_out: the good records of each side that are not in use: over the config's limits, or
      demonstrations of the test side.
  """

  field: str
  location: str
  format: str
  rows: int
  records: int
  dropped: dict[str, int]
  examples: tuple[str, ...]
  sides: dict[str, int] = dataclasses.field(default_factory=dict)
  left_out: dict[str, int] = dataclasses.field(default_factory=dict)

  def to_dict(self) -> dict[str, Any]:
    """The report in JSON's types."""
    return {**dataclasses.asdict(self), "examples": list(self.examples)}

  def sentence(self) -> str:
    """The report on one line."""
    parts = [
      f"config.data.{self.field}: {self.rows:,} rows in {self.format} form from {self.location},"
      f" {sum(self.sides.values()):,} used ({_counts(self.sides)})"
    ]
    if self.dropped:
      total = sum(self.dropped.values())
      parts.append(f"{total:,} dropped: {_counts(self.dropped)} (first: {self.examples[0]})")
    if self.left_out:
      parts.append(f"{sum(self.left_out.values()):,} left out ({_counts(self.left_out)})")
    return "; ".join(parts) + "."


def _counts(numbers: dict[str, int]) -> str:
  return ", ".join(f"{number:,} {name}" for name, number in numbers.items())
