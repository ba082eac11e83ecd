"""The rows of files: of one, of a folder, of a glob."""

import io
import os
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.locations.documents import json_rows
from apo_jax.data.locations.errors import LocationError, first_line
from apo_jax.data.locations.finding import (
  TABLES,
  File,
  folder_files,
  glob_files,
  is_glob,
  kind_of,
  one_file,
)
from apo_jax.data.locations.options import path_and_split
from apo_jax.data.locations.rows import Row, Rows
from apo_jax.data.locations.saved import is_saved, saved_rows
from apo_jax.data.locations.tables import arrow_rows, parquet_rows, separated_rows
from apo_jax.data.locations.texts import checked, text_stream
from apo_jax.logs.places import prepare_buckets


def file_rows(location: str) -> Rows:
  """The rows of a path, or a URI of fsspec's: a file, a folder or a glob.

  Raises:
    LocationError: at once or in the middle: there is nothing, or nothing readable.
  """
  # What a file system of fsspec raises is its own, from a missing package to an expired key.
  try:
    return _located(location)
  except LocationError:
    raise
  except Exception as error:
    raise LocationError(first_line(error)) from error


def _located(location: str) -> Rows:
  scheme, separator, _ = location.partition("://")
  if separator and scheme in ("http", "https"):
    return _of_web(location)
  if scheme in ("gs", "gcs"):
    prepare_buckets()
  if separator and scheme != "file":
    location, split = path_and_split(location)
    fs, path = fsspec.core.url_to_fs(location)
  else:
    # A local name may hold characters that mean something to fsspec.
    fs, location = LocalFileSystem(), _local(location)
    location, split = (location, "") if Path(location).exists() else path_and_split(location)
    path = os.path.abspath(location)
  if fs.isdir(path):
    if is_saved(lambda name: fs.isfile(f"{path.rstrip('/')}/{name}")):
      return Rows([("", saved_rows(location, split))])
    return _rows(folder_files(fs, path, split), "")
  if is_glob(path) and not fs.exists(path):
    if split:
      raise LocationError(f"its split is {split!r}, but a glob names files itself; leave it out")
    return _rows(glob_files(fs, path), "")
  if not kind_of(location)[0] and not fs.exists(path):
    raise LocationError(f"there is no such file or folder{_hub_hint(location)}")
  return _rows([one_file(location, lambda: fs.open(path, "rb"))], split)


def _hub_hint(name: str) -> str:
  is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", name)
  return f"; hf://{name} reads a data set of the hub" if is_name else ""


def _of_web(location: str) -> Rows:
  """The rows of a file that a web server gives; it lists no others."""
  path = urllib.parse.urlsplit(location).path
  if "*" in path:
    raise LocationError("a web server lists no files; name one")
  return _rows([one_file(path, fsspec.open(location, "rb").open)], "")


def _local(location: str) -> str:
  """A path of this machine, from file:///PATH or ~/PATH too."""
  if location.startswith("file://"):
    location = location.removeprefix("file://").removeprefix("localhost")
    if not location.startswith("/"):
      raise LocationError(f"it must be file:///ABSOLUTE/PATH, or the path alone: {location}")
    if not Path(location).exists():
      location = urllib.parse.unquote(location)
  return location if Path(location).exists() else str(Path(location).expanduser())


def _rows(files: list[File], split: str) -> Rows:
  if len(files) == 1:
    return Rows([("", _of_file(files[0], split, ""))])
  columns: dict[str, tuple[str, ...]] = {}
  return Rows(
    (file.name, _alike(file, _of_file(file, split, f"{file.name}: "), columns)) for file in files
  )


def _alike(file: File, rows: Iterator[Row], columns: dict[str, tuple[str, ...]]) -> Iterator[Row]:
  """The rows of one of several files.

  Raises:
    LocationError: it is a table of other columns than the first: not the same rows go on there.
  """
  for number, row in enumerate(rows):
    if not number and file.kind in TABLES and not isinstance(row, BadRow):
      columns[file.name] = tuple(sorted(row))
      first, *others = columns.items()
      if others and columns[file.name] != first[1]:
        shown = [f"{name} has {', '.join(own)}" for name, own in (first, others[-1])]
        raise LocationError(
          f"its files have different columns: {'; '.join(shown)}; name those of one kind"
        )
    yield row


def _of_file(file: File, split: str, where: str) -> Iterator[Row]:
  """The rows of a file; `where` begins the messages of one among several."""
  try:
    with file.open() as opened:
      yield from _parsed(file, opened, split, bool(where))
  except FileNotFoundError as error:  # gcsfs says nothing but its own name of the file
    said = first_line(error) if error.errno else f"there is no such file: {first_line(error)}"
    raise LocationError(f"{where}{said}") from error
  except Exception as error:
    raise LocationError(f"{where}{first_line(error)}") from error


def _parsed(file: File, opened: io.IOBase, split: str, among_several: bool) -> Iterator[Row]:
  if split and file.kind != "json":
    raise LocationError(f"its split is {split!r}, but a file has none; leave ?split= out")
  opened, head = checked(opened)
  # An empty file of text is told of by what counts its rows; among several it may be overlooked.
  if not head and (among_several or file.kind in ("parquet", "arrow")):
    raise LocationError("it is empty, of 0 bytes; it must hold at least one row")
  if file.kind in ("parquet", "arrow"):
    return parquet_rows(opened) if file.kind == "parquet" else arrow_rows(opened, head)
  stream = text_stream(opened, head, file.compression)
  if file.kind in ("csv", "tsv"):
    return separated_rows(stream, "," if file.kind == "csv" else "\t")
  return json_rows(stream, split)
