"""From the rows of a location to the records of one kind, and the report of what became of them."""

import collections
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from apo_jax.config.fields import ConfigError
from apo_jax.data.bad_rows import BadRow
from apo_jax.data.candidates import Kind, Record, Row, to_record
from apo_jax.data.formats import FORMATS, Format, columns_of, detect_format
from apo_jax.data.locations import LocationError, read_rows

# The format is told by the columns of so many rows.
_HEAD = 100
_EXAMPLES = 3

_WORDS: dict[Kind, str] = {
  "preferences": "two or more responses of one query and which is better",
  "demonstrations": "a response",
  "queries": "a query",
}


class Reading(NamedTuple):
  """The records of a location, in the order of its rows; the rest as SourceReport has it.

  Attributes:
    numbers: the row that each record was, counted from 1.
  """

  records: tuple[Record, ...]
  format: str
  rows: int
  dropped: dict[str, int]
  examples: dict[str, tuple[str, ...]]
  numbers: tuple[int, ...]


def read_records(
  name: str,
  location: str,
  kind: Kind,
  on_bad_row: Literal["skip", "error"],
  queries: Mapping[str, str] | None = None,
) -> Reading:
  """The records that a path or URI holds.

  Args:
    name: what messages call the source, "config.data.golden", say.
    location: as data/locations.py reads it.
    kind: the records that are wanted.
    on_bad_row: "skip" counts rows that cannot be used, "error" ends at the first.
    queries: the queries by id, for golden responses without one.

  Raises:
    ConfigError: the location cannot be read, its format is unknown or holds no such records, a row
      is bad under "error", or no row is left.
  """
  subject = f"{name} is {location!r}"
  try:
    rows = read_rows(location)
    return to_records(rows, subject, kind, on_bad_row, queries or {}, place=rows.place)
  except LocationError as error:
    raise ConfigError(f"{subject}, which cannot be read: {error}.") from error


def to_records(
  rows: Iterable[Row | BadRow],
  subject: str,
  kind: Kind,
  on_bad_row: Literal["skip", "error"],
  queries: Mapping[str, str],
  numbers: Iterable[int] | None = None,
  place: Callable[[int], str] = "row {}".format,
) -> Reading:
  """The records of rows.

  Args:
    subject: begins the messages.
    numbers: by which messages name the rows, where it is not their place among them.
    place: what messages call the row of a number, which may be one of a file among several.
    The others are as in `read_records`.
  """
  rows = iter(rows)
  head = list(itertools.islice(rows, _HEAD))
  if not head:
    raise ConfigError(f"{subject}, which holds no record; give at least one.")
  form = _format_of(head, subject, kind, place(1))
  records: list[Record] = []
  dropped: collections.Counter[str] = collections.Counter()
  examples: dict[str, list[str]] = {}
  good: list[int] = []
  numbers = itertools.count(1) if numbers is None else numbers
  for row, number in zip(itertools.chain(head, rows), numbers, strict=False):
    try:
      if isinstance(row, BadRow):
        raise row
      records.append(to_record(form.parse(row), kind, queries))
      good.append(number)
    except BadRow as error:
      if on_bad_row == "error":
        problem = f"({error.reason}): {error}{_row_text(row)}"
        raise ConfigError(f"{subject}, whose {place(number)} cannot be used {problem}.") from error
      dropped[error.reason] += 1
      if dropped[error.reason] <= _EXAMPLES:
        examples.setdefault(error.reason, []).append(f"{place(number)}: {error}")
  count = len(records) + dropped.total()
  if not records:
    reason, first = next(iter(examples.items()))
    raise ConfigError(f"{subject}, of whose {count} rows none can be used; {reason} in {first[0]}.")
  shown = {reason: tuple(rows) for reason, rows in examples.items()}
  return Reading(tuple(records), form.name, count, dict(dropped), shown, tuple(good))


def _format_of(head: Sequence[Row | BadRow], subject: str, kind: Kind, first: str) -> Format:
  """The format of the first rows, of which messages call one `first`; it must hold such records."""
  rows = [row for row in head if not isinstance(row, BadRow)]
  if not rows:
    why = f"{first}, {head[0].reason}: {head[0]}"
    raise ConfigError(f"{subject}, of whose first {len(head)} rows none can be read; {why}.")
  columns = columns_of(rows)
  form = detect_format(columns)
  known = "; ".join(form.name for form in FORMATS if form.can_give(kind))
  if form is None:
    raise ConfigError(
      f"{subject}, whose columns ({', '.join(columns)}) are of no known format; known with"
      f" {_WORDS[kind]} are: {known}."
    )
  if not form.can_give(kind):
    raise ConfigError(
      f"{subject}, whose rows are in {form.name} form; each must hold {_WORDS[kind]}, as in:"
      f" {known}."
    )
  return form


def _row_text(row: Row | BadRow) -> str:
  return "" if isinstance(row, BadRow) else f". The row is {json.dumps(row, default=str)[:200]}"
