"""The rows of tables: parquet, Arrow, CSV and TSV files."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow
import pyarrow.parquet

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.locations.errors import LocationError
from apo_jax.data.locations.rows import Row

_ROWS_AT_ONCE = 1024
# A text of a cell may be long; the library's own limit is 128 KiB.
_LONGEST_CELL = 2**31 - 1


def parquet_rows(file: io.IOBase) -> Iterator[Row]:
  """The rows of a parquet file."""
  parquet = pyarrow.parquet.ParquetFile(file)
  _check_columns(parquet.schema_arrow.names)
  yield from _of_batches(parquet.iter_batches(_ROWS_AT_ONCE))


def arrow_rows(file: io.IOBase, head: bytes) -> Iterator[Row]:
  """The rows of an Arrow file: a stream, as `datasets` writes it, or random access, as Feather is.

  Args:
    file: opened for reading.
    head: its first bytes.
  """
  if head.startswith(b"ARROW1"):
    reader = pyarrow.ipc.open_file(file)
    batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
  else:
    batches = reader = pyarrow.ipc.open_stream(file)
  _check_columns(reader.schema.names)
  for batch in batches:
    slices = range(0, batch.num_rows, _ROWS_AT_ONCE)
    yield from _of_batches(batch.slice(start, _ROWS_AT_ONCE) for start in slices)


def separated_rows(stream: io.IOBase, delimiter: str) -> Iterator[Row]:
  """The rows of a CSV or TSV text, whose first line names the columns; every value is a text.

  Args:
    stream: the text, in bytes.
    delimiter: between the columns; where the first line has none, ";" is tried for ",".

  Raises:
    LocationError: a quotation does not end as it should, behind which no row is certain, or a
      column's name stands twice.
  """
  csv.field_size_limit(_LONGEST_CELL)
  text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
  first = text.readline()
  if delimiter == "," and delimiter not in first and ";" in first:
    delimiter = ";"
  lines = (line for part in ([first], text) for line in part)
  # A strict reader refuses a quotation that is not closed, which would take in the rows behind it.
  reader = csv.reader(lines, delimiter=delimiter, strict=True)
  try:
    # A column without a name is the index that pandas writes.
    columns = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(next(reader, []))]
    _check_columns(columns)
    for values in reader:
      if values:
        yield _named(columns, values)
  except csv.Error as error:
    raise LocationError(
      f"its line {reader.line_num} is not valid: {error}; a text with the delimiter, a line break"
      ' or a quotation mark stands in "…", and a quotation mark in it is doubled'
    ) from error


def _named(columns: list[str], values: list[str]) -> Row:
  if len(values) != len(columns):
    problem = f"it has {len(values)} values; it must have {len(columns)}, one a column"
    return BadRow("wrong field", problem)
  return dict(zip(columns, values, strict=True))


def _check_columns(names: list[str]) -> None:
  twice = {name for name in names if names.count(name) > 1}
  if twice:
    raise LocationError(f"it has two columns named {min(twice)}; give each a name of its own")


def _of_batches(batches: Iterable[pyarrow.RecordBatch]) -> Iterator[Row]:
  for batch in batches:
    try:
      yield from batch.to_pylist()
    except UnicodeDecodeError:
      for index in range(batch.num_rows):
        yield _single(batch.slice(index, 1))


def _single(batch: pyarrow.RecordBatch) -> Mapping[str, Any] | BadRow:
  try:
    return batch.to_pylist()[0]
  except UnicodeDecodeError as error:
    return BadRow("not UTF-8", f"it is not UTF-8 text: {error.reason}")
