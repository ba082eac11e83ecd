"""The rows of a data set, from wherever it is.

A path, or gs://, s3://, https://, memory:// …
    .json (a list, or one object a line), .jsonl or .parquet; the first two also .gz or .zst; by
    fsspec
hf://OWNER/NAME[@REVISION]?split=train&name=CONFIG&data_dir=DIR&streaming=true
    a data set of the hub, or a local directory; by `datasets`. With streaming=true its files are
    not downloaded to disk first; every row is read all the same
tfds://NAME[/CONFIG][:VERSION]?split=train&data_dir=DIR
    ArrayRecord files that were prepared; by `tfds.data_source`, which needs no TensorFlow

A row is a dict; a line that cannot be read is a `BadRow` in its place. Bytes that are not UTF-8
stay in a text as lone surrogates, so that only a row whose texts are used is bad for them.
"""

import gzip
import io
import itertools
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet

from apo_jax.data.bad_rows import BadRow

Rows = Iterator[Mapping[str, Any] | BadRow]

_SUFFIXES = "it must end in .json, .jsonl or .parquet, the first two also with .gz or .zst"
_ROWS_AT_ONCE = 1024
_HUB_OPTIONS = ("split", "name", "data_dir", "streaming")
_TFDS_OPTIONS = ("split", "data_dir")


class LocationError(Exception):
  """A location that cannot be read; the message says what would be right."""


def read_rows(location: str) -> Rows:
  """The rows of a path or URI, in their order, as they are read.

  Raises:
    LocationError: at once or in the middle: there is nothing, or nothing readable, at the location.
  """
  scheme, separator, rest = location.partition("://")
  if separator and scheme == "hf":
    return _hub_rows(rest)
  if separator and scheme == "tfds":
    return _tfds_rows(rest)
  if separator and scheme not in fsspec.available_protocols():
    raise LocationError(f"its scheme is {scheme!r}; it must be hf, tfds or one of fsspec's, as gs")
  return _file_rows(location)


def _file_rows(location: str) -> Rows:
  suffix, compression = _suffixes(location)
  with ExitStack() as stack:
    try:
      file = stack.enter_context(_open(location))
      if suffix == ".parquet":
        yield from _parquet_rows(file)
      else:
        stream = stack.enter_context(_decompressed(file, compression))
        yield from _json_rows(stream, may_be_list=suffix == ".json")
    # What a file system of fsspec raises is its own, from a missing package to an expired key.
    except Exception as error:
      raise LocationError(_first_line(error)) from error


def _suffixes(location: str) -> tuple[str, str]:
  """The file's suffix and its compression's, or ""."""
  path = urllib.parse.urlsplit(location).path if "://" in location else location
  suffixes = PurePosixPath(path.lower()).suffixes
  compression = suffixes.pop() if suffixes and suffixes[-1] in (".gz", ".zst") else ""
  suffix = suffixes[-1] if suffixes else ""
  if suffix not in (".json", ".jsonl", ".parquet") or (suffix == ".parquet" and compression):
    if "://" not in location and Path(location).is_dir():
      raise LocationError(f"it is a directory; hf://{location} reads it with `datasets`")
    raise LocationError(f"its suffix is {(suffix + compression)!r}; {_SUFFIXES}")
  return suffix, compression


def _open(location: str) -> io.IOBase:
  if "://" in location:
    return fsspec.open(location, "rb").open()
  # A local name may hold characters that mean something to fsspec.
  return open(location, "rb")


def _decompressed(file: io.IOBase, compression: str) -> io.IOBase:
  if compression == ".gz":
    return gzip.open(file)
  if compression == ".zst":
    return io.BufferedReader(pyarrow.input_stream(file, compression="zstd"))
  return file


def _parquet_rows(file: io.IOBase) -> Rows:
  for batch in pyarrow.parquet.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
    try:
      yield from batch.to_pylist()
    except UnicodeDecodeError:
      for index in range(batch.num_rows):
        yield _parquet_row(batch.slice(index, 1))


def _parquet_row(batch: pyarrow.RecordBatch) -> Mapping[str, Any] | BadRow:
  try:
    return batch.to_pylist()[0]
  except UnicodeDecodeError as error:
    return BadRow("not UTF-8", f"it is not UTF-8 text: {error.reason}")


def _json_rows(stream: io.IOBase, *, may_be_list: bool) -> Rows:
  # Lines are split as bytes: a text may hold characters that str.splitlines would split at.
  lines = (line for line in stream if line.strip())
  first = next(lines, b"").removeprefix(b"\xef\xbb\xbf")
  if may_be_list and first.lstrip().startswith(b"["):
    for row in json.loads(_decode(first + stream.read())):
      yield _object(row)
    return
  for line in itertools.chain([first] if first.strip() else [], lines):
    yield _line(line)


def _line(line: bytes) -> Mapping[str, Any] | BadRow:
  try:
    return _object(json.loads(_decode(line)))
  except (ValueError, RecursionError) as error:
    problem = f"it is not valid JSON: {error}"
  try:
    line.decode()
  except UnicodeDecodeError as error:
    return BadRow("not UTF-8", f"it is not UTF-8 text: {error.reason}")
  return BadRow("not JSON", problem)


def _decode(data: bytes) -> str:
  return data.decode("utf-8", errors="surrogateescape")


def _object(row: Any) -> Mapping[str, Any] | BadRow:
  if isinstance(row, dict):
    return row
  return BadRow("not JSON", f"it is {json.dumps(row)[:100]}; it must be a JSON object")


def _hub_rows(rest: str) -> Rows:
  name, options = _options(rest, _HUB_OPTIONS)
  streaming = options.pop("streaming", "false")
  if streaming not in ("true", "false"):
    raise LocationError(f"its streaming is {streaming!r}; it must be true or false")
  path, _, revision = name.partition("@")
  if Path(name).exists():
    path, revision = name, ""
  import datasets  # takes seconds, which no other source should cost

  # Whatever goes wrong on the hub, in a file of it or on the way, comes as some exception of
  # `datasets`, of the libraries below it, or of Python.
  try:
    rows = datasets.load_dataset(
      path,
      split=options.pop("split", "train"),
      revision=revision or None,
      streaming=streaming == "true",
      **options,
    )
    yield from rows
  except Exception as error:
    raise LocationError(
      f"{_first_line(error)}; it must be a data set of the hub, which must be reached, or a local"
      " directory"
    ) from error


def _tfds_rows(rest: str) -> Rows:
  name, options = _options(rest, _TFDS_OPTIONS)
  import tensorflow_datasets as tfds  # takes seconds

  try:
    # Nothing is downloaded: many processes of one run would do so at once.
    source = tfds.data_source(
      name, split=options.get("split", "train"), data_dir=options.get("data_dir"), download=False
    )
    for start in range(0, len(source), _ROWS_AT_ONCE):
      indices = range(start, min(start + _ROWS_AT_ONCE, len(source)))
      yield from map(_plain, source.__getitems__(indices))
  except Exception as error:
    raise LocationError(
      f"{_first_line(error)}; it must be a TFDS data set that is prepared as ArrayRecord files in"
      " data_dir"
    ) from error


def _options(rest: str, known: tuple[str, ...]) -> tuple[str, dict[str, str]]:
  """The name and the parameters of a URI's part behind "://"."""
  name, _, query = rest.partition("?")
  options = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
  for option, value in options.items():
    if option not in known:
      raise LocationError(
        f"its parameter {option} is {value!r}, but there is none of that name; known are"
        f" {', '.join(known)}"
      )
  if not name:
    raise LocationError("it names no data set")
  return name, options


def _plain(value: Any) -> Any:
  """What TFDS reads, in JSON's types."""
  if isinstance(value, bytes):
    return _decode(value)
  if isinstance(value, Mapping):
    return {name: _plain(item) for name, item in value.items()}
  if hasattr(value, "tolist"):
    return _plain(value.tolist())
  return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _first_line(error: Exception) -> str:
  """What an exception says, as one part of a sentence."""
  lines = str(error).strip().splitlines()
  return lines[0].strip().rstrip(".:") if lines else type(error).__name__
