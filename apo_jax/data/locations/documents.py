"""The rows of JSON files: an object a line, a list, objects in a row, or an object around them."""

import io
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.locations.errors import LocationError
from apo_jax.data.locations.rows import Row
from apo_jax.data.locations.texts import decode

# Names under which files keep the list of their rows.
_LISTS = (
  *("rows", "data", "examples", "records", "instances"),
  *("train", "test", "validation", "valid", "dev", "eval"),
)


def json_rows(stream: io.IOBase, split: str = "") -> Iterator[Row]:
  """The rows of a JSON text.

  Lines are read one by one where the first is a whole JSON value, else the text is read at once.

  Args:
    stream: the text, in bytes.
    split: which of an object's lists is read; "" for the only one, or else "train".

  Raises:
    LocationError: it is neither lines nor one JSON text, or an object of another form; the message
      says how it is converted.
  """
  lines = _lines(stream)
  first, second = next(lines, b""), next(lines, b"")
  if second and _is_whole(first):
    _no_split(split)
    yield from map(_line, itertools.chain([first, second], lines))
    return
  rest = [first, second, *lines] if second else [first]
  values, error = _values(decode(b"".join(rest)))
  if error is None:
    yield from _rows_of(values, split)
  elif first.lstrip().startswith(b"[") or not (values or any(map(_is_object, rest))):
    raise LocationError(f"it is not valid JSON: {error}")
  else:
    yield from map(_line, rest)  # lines, of which the first is bad


def _lines(stream: io.IOBase) -> Iterator[bytes]:
  """The lines that are not blank, without a byte order mark."""
  # Lines are split as bytes: a text may hold characters that str.splitlines would split at.
  for number, line in enumerate(stream):
    line = line if number else line.removeprefix(b"\xef\xbb\xbf")
    if line.strip():
      yield line


def _is_whole(line: bytes) -> bool:
  """Whether a line is a JSON value itself."""
  try:
    json.loads(decode(line))
  except (ValueError, RecursionError):
    return False
  return True


def _is_object(line: bytes) -> bool:
  return line.lstrip().startswith(b"{") and _is_whole(line)


def _values(text: str) -> tuple[list[Any], Exception | None]:
  """The JSON values in a text, with only blanks between them, and what is wrong behind them."""
  decoder, values, place = json.JSONDecoder(), [], 0
  while place < len(text):
    if text[place].isspace():
      place += 1
      continue
    try:
      value, place = decoder.raw_decode(text, place)
    except (ValueError, RecursionError) as error:
      return values, error
    values.append(value)
  return values, None


def _rows_of(values: Sequence[Any], split: str) -> Iterator[Row]:
  """The rows of a text that was read at once."""
  rows = values[0] if len(values) == 1 and isinstance(values[0], list) else values
  if len(values) == 1 and isinstance(values[0], dict):
    rows = _inside(values[0], split)
  else:
    _no_split(split)
  yield from map(_object, rows)


def _inside(whole: dict[str, Any], split: str) -> Sequence[Any]:
  """The rows in an object that is all of a text; it may be one row itself.

  Raises:
    LocationError: it holds rows in a form that must be converted, or several lists of them.
  """
  lists = {name: rows for name, rows in whole.items() if _is_list_of_rows(rows)}
  if "rows" in lists:
    lists.pop("features", None)  # the hub viewer's description of its columns
  if split or any(name in _LISTS for name in lists):
    wanted = split or (next(iter(lists)) if len(lists) == 1 else "train")
    if wanted not in lists:
      known = f"its lists of rows are {', '.join(lists)}" if lists else "it holds no lists of rows"
      raise LocationError(f"its split is {wanted!r}, but {known}; choose one by ?split=NAME")
    return list(map(_viewed, lists[wanted]))
  _check_no_table(whole)
  return [whole]


def _is_list_of_rows(value: Any) -> bool:
  return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _viewed(row: dict[str, Any]) -> Any:
  """The row in one of the hub viewer's export, which cuts long texts; others as they are."""
  if "row_idx" not in row or "row" not in row:
    return row
  if cut := row.get("truncated_cells"):
    shown = ", ".join(map(str, cut))
    return BadRow("wrong field", f"the hub's viewer has cut its {shown}; read the data set itself")
  return row["row"]


def _check_no_table(whole: dict[str, Any]) -> None:
  """Checks that an object is not a whole table, by columns or by numbers of rows.

  Raises:
    LocationError: it is one; the message has the command that converts it.
  """
  parts = list(whole.values())
  if len(parts) < 2:
    return
  lists = all(
    isinstance(part, list) and not any(isinstance(i, dict) for i in part) for part in parts
  )
  by_column = lists and len({len(part) for part in parts}) == 1
  if by_column or all(isinstance(part, dict) and _is_numbered(part) for part in parts):
    raise LocationError(
      'it holds one object of columns, not rows; `python -c "import pandas;'
      " pandas.read_json('FILE', dtype=False, convert_dates=False)"
      ".to_json('NEW.jsonl', orient='records', lines=True)\"` converts it"
    )
  if _is_numbered(whole) and all(isinstance(part, dict) for part in parts):
    raise LocationError(
      "it holds one object of rows by their numbers; `jq -c '.[]' FILE > NEW.jsonl` converts it"
    )


def _is_numbered(part: dict[str, Any]) -> bool:
  return bool(part) and all(name.isdigit() for name in part)


def _no_split(split: str) -> None:
  if split:
    raise LocationError(f"its split is {split!r}, but it holds one list of rows; leave ?split= out")


def _line(line: bytes) -> Row:
  try:
    return _object(json.loads(decode(line)))
  except (ValueError, RecursionError) as error:
    problem = f"it is not valid JSON: {error}"
  try:
    line.decode()
  except UnicodeDecodeError as error:
    return BadRow("not UTF-8", f"it is not UTF-8 text: {error.reason}")
  return BadRow("not JSON", problem)


def _object(row: Any) -> Row:
  if isinstance(row, dict | BadRow):
    return row
  return BadRow("not JSON", f"it is {json.dumps(row)[:100]}; it must be a JSON object")
