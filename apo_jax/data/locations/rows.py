"""The rows of a location, which may be those of several files, one after the other."""

import bisect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from apo_jax.data.bad_rows import BadRow

Row = Mapping[str, Any] | BadRow


class Rows(Iterator[Row]):
  """An iterator over the rows of all files, which knows where each row came from.

  Args:
    files: the files' names, as messages show them, and their rows; one without a name, "", is all
      there is.
  """

  def __init__(self, files: Iterable[tuple[str, Iterable[Row]]]) -> None:
    self._starts: list[int] = []  # how many rows came before each file that was begun
    self._names: list[str] = []
    self._read = 0
    self._rows = self._chain(files)

  def __next__(self) -> Row:
    return next(self._rows)

  def place(self, number: int) -> str:
    """Where the row with this number, from 1, was found: "row 7", or "row 2 of b.jsonl"."""
    file = bisect.bisect_left(self._starts, number) - 1
    name = self._names[file] if file >= 0 else ""
    return f"row {number - self._starts[file]} of {name}" if name else f"row {number}"

  def _chain(self, files: Iterable[tuple[str, Iterable[Row]]]) -> Iterator[Row]:
    for name, rows in files:
      self._starts.append(self._read)
      self._names.append(name)
      for row in rows:
        self._read += 1
        yield row
