"""Reading and writing the files of a run directory.

Every write is atomic: the content goes to a temporary file in the same directory, is flushed to the
disk, and only then takes the place of the old file. In a bucket it is collected and becomes one
object. A run that is killed while writing leaves the old file as it was.

JSON has no NaN and no infinity, so floats that are not finite are written as null. All files are
UTF-8.
"""

import hashlib
import io
import json
import math
import os
import reprlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from apo_jax.logs.places import Place, is_bucket, write_object


@contextmanager
def _replacing(path: Place) -> Iterator[BinaryIO]:
  """A file to write to, which takes the place of `path` if the block ends without an exception."""
  if is_bucket(path):
    content = io.BytesIO()
    yield content
    write_object(path, content.getvalue())
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
  try:
    with open(temporary, "xb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_directory(path.parent)
  finally:
    temporary.unlink(missing_ok=True)


def _sync_directory(directory: Place) -> None:
  """Waits until a new name is on the disk, where the file system can say so."""
  with suppress(OSError):
    descriptor = os.open(directory, os.O_RDONLY)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)


def _encode(text: str) -> bytes:
  # A lone surrogate has no UTF-8 form. Written as \ud800, say, it still is valid in a JSON string.
  return text.encode("utf-8", errors="backslashreplace")


def _jsonable(value: Any) -> Any:
  """The value in JSON's types: arrays as numbers or lists, floats that are not finite as None."""
  if isinstance(value, float):
    # float() turns NumPy's float64, which is a float too, into a plain one.
    return float(value) if math.isfinite(value) else None
  if isinstance(value, Mapping):
    return {key: _jsonable(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_jsonable(item) for item in value]
  if hasattr(value, "tolist"):  # NumPy and JAX arrays and scalars
    return _jsonable(value.tolist())
  return value


def json_line(value: Any) -> str:
  """The value as JSON on one line, without the newline; floats that are not finite become null.

  Raises:
    TypeError: the value holds something that JSON has no form for.
  """
  return json.dumps(_jsonable(value), ensure_ascii=False, allow_nan=False)


def json_text(value: Any) -> str:
  """The value as indented JSON; floats that are not finite become null.

  Raises:
    TypeError: the value holds something that JSON has no form for.
  """
  return json.dumps(_jsonable(value), ensure_ascii=False, allow_nan=False, indent=2)


def write_bytes(path: Place, content: bytes) -> None:
  """Writes bytes to `path` atomically, and makes the directories above it."""
  with _replacing(path) as file:
    file.write(content)


def write_text(path: Place, text: str) -> None:
  """Writes text to `path` atomically, and makes the directories above it."""
  write_bytes(path, _encode(text))


def write_json(path: Place, value: Any) -> None:
  """Writes one indented JSON value to `path` atomically; NaN and infinities become null.

  Raises:
    TypeError: the value holds something that JSON has no form for; the old file stays.
  """
  write_text(path, json_text(value) + "\n")


def write_jsonl(path: Place, rows: Iterable[Mapping[str, Any]]) -> None:
  """Writes one JSON object a line to `path` atomically; NaN and infinities become null.

  `rows` may be a generator: an exception in it leaves the old file as it was.

  Raises:
    TypeError: a row holds something that JSON has no form for; the old file stays.
  """
  with _replacing(path) as file:
    for row in rows:
      file.write(_encode(json_line(row) + "\n"))


def read_json(path: Place) -> Any:
  """The JSON value in `path`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is not JSON; the message names the file and the line.
  """
  try:
    return json.loads(path.read_bytes().decode("utf-8"))
  except json.JSONDecodeError as error:
    raise ValueError(f"{path}, line {error.lineno}, is not valid JSON: {error.msg}.") from error
  except UnicodeDecodeError as error:
    raise ValueError(f"{path} is not UTF-8 text: {error.reason}.") from error
  except RecursionError as error:
    raise ValueError(f"{path} is JSON that is nested too deeply.") from error


def read_json_object(path: Place) -> dict[str, Any]:
  """The JSON object in `path`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file holds no JSON object; the message names it.
  """
  value = read_json(path)
  if not isinstance(value, dict):
    raise ValueError(f"{path} holds {reprlib.repr(value)}; it must be a JSON object.")
  return value


def read_jsonl(
  path: Place, *, ignore_torn_end: bool = False, content: bytes | None = None
) -> list[dict[str, Any]]:
  """The JSON objects in `path`, one a line; empty lines are skipped.

  Args:
    path: the file.
    ignore_torn_end: leave out what follows the last newline, for a file that grows line by line.
    content: of the file, where it was read already.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is not a JSON object; the message names the file and the line.
  """
  # Lines are split as bytes: a text may hold characters that str.splitlines would split at.
  lines = (path.read_bytes() if content is None else content).split(b"\n")
  if ignore_torn_end:
    lines = lines[:-1]
  rows = []
  for number, line in enumerate(lines, start=1):
    if line.strip():
      rows.append(_object(path, number, line))
  return rows


def file_sha256(path: Place) -> str:
  """A hash of a file's bytes.

  Raises:
    OSError: it cannot be read.
  """
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _object(path: Place, number: int, line: bytes) -> dict[str, Any]:
  try:
    row = json.loads(line.decode("utf-8"))
  except json.JSONDecodeError as error:
    raise ValueError(f"{path}, line {number}, is not valid JSON: {error.msg}.") from error
  except UnicodeDecodeError as error:
    raise ValueError(f"{path}, line {number}, is not UTF-8 text: {error.reason}.") from error
  except RecursionError as error:
    raise ValueError(f"{path}, line {number}, is JSON that is nested too deeply.") from error
  if not isinstance(row, dict):
    raise ValueError(f"{path}, line {number}, must be a JSON object, but is {row!r}.")
  return row
