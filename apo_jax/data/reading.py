"""From the rows of a location to the records of one kind, and the report of what became of them."""

import collections
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from apo_jax.config.fields import ConfigError
from apo_jax.data.bad_rows import BadRow
from apo_jax.data.candidates import Candidate, Kind, Record, Row, to_record
from apo_jax.data.columns import RowView
from apo_jax.data.formats.groups import join_answers
from apo_jax.data.formats.table import FORMATS, format_of, parse_row
from apo_jax.data.formats.trees import Node, join_nodes
from apo_jax.data.locations import LocationError, read_rows
from apo_jax.data.messages import unread_keys
from apo_jax.data.values import shown

# A file of which no row among so many is in a form of the wanted kind is refused as a whole.
_HEAD = 100
_EXAMPLES = 3
# It is a part of metrics' names.
_SUBSET = re.compile(r"[\w.-]{1,40}")

_WORDS: dict[Kind, str] = {
  "preferences": "two or more responses of one query and which is better",
  "demonstrations": "a response",
  "queries": "a query",
}


class Reading(NamedTuple):
  """The records of a location, in the order of its rows; the rest as SourceReport has it.

  Attributes:
    numbers: the row that each record was, or the first of several, counted from 1.
  """

  records: tuple[Record, ...]
  format: str
  rows: int
  dropped: dict[str, int]
  examples: dict[str, tuple[str, ...]]
  numbers: tuple[int, ...]
  formats: dict[str, int]
  read: tuple[str, ...]
  unread: tuple[str, ...]
  joined: int


def read_records(
  name: str,
  location: str,
  kind: Kind,
  on_bad_row: Literal["skip", "error"],
  queries: Mapping[str, str] | None = None,
  subset_column: str = "",
) -> Reading:
  """The records that a path or URI holds.

  Args:
    name: what messages call the source, "config.data.golden", say.
    location: as data/locations.py reads it.
    kind: the records that are wanted.
    on_bad_row: "skip" counts rows that cannot be used, "error" ends at the first.
    queries: the queries by id, for golden responses without one.
    subset_column: the column that names the subset of a preference; "" where none are told apart.

  Raises:
    ConfigError: the location cannot be read, its format is unknown or holds no such records, a row
      is bad under "error", or no row is left.
  """
  subject = f"{name} is {location!r}"
  try:
    rows = read_rows(location)
    return to_records(
      rows, subject, kind, on_bad_row, queries or {}, place=rows.place, subset_column=subset_column
    )
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
  subset_column: str = "",
) -> Reading:
  """The records of rows, each read by its own shape.

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
  _check_head(head, subject, kind, place(1))
  ledger = _Ledger(subject, kind, on_bad_row, queries, place, subset_column)
  numbers = itertools.count(1) if numbers is None else numbers
  for row, number in zip(itertools.chain(head, rows), numbers, strict=False):
    ledger.add(row, number)
  ledger.join()
  return ledger.close()


class _Ledger:
  """What has been found in the rows so far."""

  def __init__(
    self,
    subject: str,
    kind: Kind,
    on_bad_row: Literal["skip", "error"],
    queries: Mapping[str, str],
    place: Callable[[int], str],
    subset_column: str,
  ) -> None:
    self._subject, self._kind, self._queries, self._place = subject, kind, queries, place
    self._strict, self._subset_column = on_bad_row == "error", subset_column
    self._records: list[tuple[int, Record]] = []
    self._dropped: collections.Counter[str] = collections.Counter()
    self._examples: dict[str, list[str]] = {}
    self._formats: collections.Counter[str] = collections.Counter()
    self._read: dict[str, None] = {}
    self._seen: dict[str, None] = {}
    self._parts: list[tuple[int, Candidate]] = []
    self._nodes: list[tuple[int, Node]] = []
    self._rows = self._joined = 0

  def add(self, row: Row | BadRow, number: int) -> None:
    """Reads a row: its record at once, or when its group is whole."""
    self._rows += 1
    try:
      found = self._parsed(row)
      if self._subset_column:
        found = self._in_subset(found, row)
      if not isinstance(found, Candidate):
        self._nodes += [(number, node) for node in found]
      elif self._kind in found.joined_for:
        self._parts.append((number, found))
      else:
        self._keep(number, found)
    except BadRow as error:
      self._drop((number,), error, row)

  def join(self) -> None:
    """Makes the records that several rows have together."""
    for numbers, candidate in (*join_nodes(self._nodes), *join_answers(self._parts)):
      # A row that holds a whole tree is many messages.
      own = tuple(dict.fromkeys(numbers))
      try:
        if isinstance(candidate, BadRow):
          raise candidate
        self._keep(own[0], candidate)
        self._joined += len(own) - 1
      except BadRow as error:
        self._drop(own, error, None)

  def close(self) -> Reading:
    """The reading.

    Raises:
      ConfigError: no row is left.
    """
    count = self._rows
    if not self._records:
      reason, first = next(iter(self._examples.items()))
      raise ConfigError(
        f"{self._subject}, of whose {count} rows none can be used; {reason} in {first[0]}."
      )
    # Groups are whole only at the end; sorting is stable.
    kept = sorted(self._records, key=lambda one: one[0])
    return Reading(
      tuple(record for _, record in kept),
      self._formats.most_common(1)[0][0],
      count,
      dict(self._dropped),
      {reason: tuple(rows) for reason, rows in self._examples.items()},
      tuple(number for number, _ in kept),
      dict(self._formats),
      tuple(self._read),
      tuple(name for name in self._seen if name not in self._read),
      self._joined,
    )

  def _parsed(self, row: Row | BadRow) -> Candidate | tuple[Node, ...]:
    if isinstance(row, BadRow):
      raise row
    view = RowView(row)
    form = format_of(view, self._kind)
    self._seen |= dict.fromkeys(map(view.own_name, view.said))
    if form is None:
      raise BadRow("unknown form", f"its columns ({', '.join(row)}) are of no known format")
    self._formats[form.name] += 1
    try:
      return parse_row(view, form, self._kind)
    finally:
      read = map(view.own_name, view.read)
      self._read |= dict.fromkeys(read)
      for name in view.read:
        for key in unread_keys(view.peek(name)):
          self._seen[f"{view.own_name(name)}.{key}"] = None

  def _in_subset(
    self, found: Candidate | tuple[Node, ...], row: Row | BadRow
  ) -> Candidate | tuple[Node, ...]:
    """The candidate with its subset."""
    column = self._subset_column
    if not isinstance(found, Candidate) or isinstance(row, BadRow):
      raise BadRow("wrong field", f"it is a message of a tree, of which no {column!r} is read")
    value = row.get(column)
    if not isinstance(value, str) or not _SUBSET.fullmatch(value):
      raise BadRow(
        "wrong field",
        f"its {column!r}, which config.data.subset_column names, is {shown(value)}; it must be up"
        " to 40 letters, digits, '_', '-' and '.'",
      )
    self._read[column] = None
    return found._replace(subset=value)

  def _keep(self, number: int, candidate: Candidate) -> None:
    self._records.append((number, to_record(candidate, self._kind, self._queries)))

  def _drop(self, numbers: tuple[int, ...], error: BadRow, row: Row | BadRow | None) -> None:
    if self._strict:
      problem = f"({error.reason}): {error}{_row_text(row)}"
      raise ConfigError(
        f"{self._subject}, whose {self._place(numbers[0])} cannot be used {problem}."
      ) from error
    if self._dropped[error.reason] < _EXAMPLES:
      self._examples.setdefault(error.reason, []).append(f"{self._place(numbers[0])}: {error}")
    self._dropped[error.reason] += len(numbers)


def _check_head(head: Sequence[Row | BadRow], subject: str, kind: Kind, first: str) -> None:
  """Raises ConfigError where none of the first rows is in a form that holds such records.

  Messages call the first of them `first`.
  """
  rows = [row for row in head if not isinstance(row, BadRow)]
  if not rows:
    why = f"{first}, {head[0].reason}: {head[0]}"
    raise ConfigError(f"{subject}, of whose first {len(head)} rows none can be read; {why}.")
  forms, refused = [], ""
  for row in rows:
    try:
      form = format_of(RowView(row), kind)
    except BadRow as error:
      refused = refused or f"{error}"
      continue
    if form is not None and form.can_give(kind):
      return
    forms.append(form)
  if refused:
    raise ConfigError(f"{subject}, whose rows are not read: {refused}.")
  known = "; ".join(form.name for form in FORMATS if form.can_give(kind))
  form = next((form for form in forms if form is not None), None)
  if form is None:
    columns = ", ".join(dict.fromkeys(name for row in rows for name in RowView(row).said))
    raise ConfigError(
      f"{subject}, whose columns ({columns}) are of no known format; known with {_WORDS[kind]}"
      f" are: {known}."
    )
  raise ConfigError(
    f"{subject}, whose rows are in {form.name} form; each must hold {_WORDS[kind]}, as in: {known}."
  )


def _row_text(row: Row | BadRow | None) -> str:
  if row is None or isinstance(row, BadRow):
    return ""
  return f". The row is {json.dumps(row, default=str)[:200]}"
