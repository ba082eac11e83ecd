"""The values of a row: texts, numbers, ids, and how messages show them."""

import re
import reprlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.columns import IDS, RowView, says_nothing

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TRUE = {"true", "yes", "1", "1.0"}
_FALSE = {"false", "no", "0", "0.0"}


def shown(value: Any) -> str:
  """A value for a message, cut to a readable length."""
  return _SHORT.repr(value)


def present(row: Mapping[str, Any], names: Sequence[str]) -> str:
  """The first of the names that says something, else the first that is there at all.

  Raises:
    BadRow: it has none of them.
  """
  look = row.peek if isinstance(row, RowView) else row.get
  there = [name for name in names if look(name) is not None]
  if there:
    return next((name for name in there if not says_nothing(look(name))), there[0])
  first, *others = map(repr, names)
  also = f" (or {', '.join(others)})" if others else ""
  raise BadRow("missing field", f"it has no field {first}{also}")


def field(row: Mapping[str, Any], name: str) -> Any:
  """The value of this name.

  Raises:
    BadRow: there is none, or it is None.
  """
  return row[present(row, [name])]


def text_of(value: Any, name: str) -> str:
  """A value that must be a text, as it is.

  Raises:
    BadRow: it is no text, or holds what is no character.
  """
  if not isinstance(value, str):
    raise BadRow("wrong field", f"{name} is {shown(value)}; it must be a text")
  try:
    value.encode()
  except UnicodeEncodeError as error:
    found = value[error.start]
    raise BadRow("not UTF-8", f"{name} holds {found!r}, which is no character") from error
  return value


def number_of(value: Any) -> float | None:
  """A finite number, also one that a table wrote as text; None of anything else, True too."""
  if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
    value = float(value)
  # A whole number may be too large for a float.
  if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
    return None
  return float(value)


def flag_of(value: Any, name: str) -> bool:
  """A value that must be true or false, as such, as 1 or 0, or as a text of these.

  Raises:
    BadRow: it is neither.
  """
  said = str(value).strip().lower()
  if said in _TRUE or said in _FALSE:
    return said in _TRUE
  raise BadRow("wrong field", f"{name} is {shown(value)}; it must be true or false")


def query_id_of(row: Mapping[str, Any]) -> str | None:
  """The row's own id as a text; None where it has none that is a text or a number.

  A query has its text, so that an id of another kind is merely not one.
  """
  for name in IDS:
    value = row.get(name)
    if isinstance(value, float) and value.is_integer():
      value = int(value)
    if type(value) in (int, float) and value == value:
      return str(value)
    if isinstance(value, str) and value.strip() and not _SURROGATE.search(value):
      return value
  return None
