"""Files of text: whether it is what its name says, and without its compression."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pyarrow

from apo_jax.data.locations.errors import LocationError

# How a compression begins. No JSON and no sensible header of a table begins so.
_BEGINNINGS = {
  b"\x1f\x8b": ".gz",
  b"BZh": ".bz2",
  b"\xfd7zXZ\x00": ".xz",
  b"\x28\xb5\x2f\xfd": ".zst",
}
_OPEN: dict[str, Callable[[io.IOBase], io.IOBase]] = {
  ".gz": gzip.open,
  ".bz2": bz2.open,
  ".xz": lzma.open,
  ".zst": lambda file: io.BufferedReader(pyarrow.input_stream(file, compression="zstd")),
}
COMPRESSIONS = tuple(_OPEN)
_HEAD = 64


def checked(file: io.IOBase) -> tuple[io.IOBase, bytes]:
  """The file, to be read from its start, and its first bytes.

  Raises:
    LocationError: it holds something in the place of the data.
  """
  head = file.read(_HEAD)
  if head.startswith(b"version https://git-lfs"):
    raise LocationError(
      "it holds no data but a pointer of git-lfs; `git lfs pull` in its folder brings the file"
    )
  start = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
  if start.startswith((b"<!doctype", b"<html", b"<?xml")):
    raise LocationError("it is a web page or XML, not data; give the address of the file itself")
  if file.seekable():
    file.seek(0)
    return file, head
  return io.BytesIO(head + file.read()), head


def text_stream(file: io.IOBase, head: bytes, compression: str) -> io.IOBase:
  """The bytes of a text, decompressed as its name or its first bytes say.

  Args:
    file: opened for reading, in bytes.
    head: its first bytes.
    compression: the suffix that names it, "" for none.

  Raises:
    LocationError: it is no text in UTF-8, nor in a compression that is known.
  """
  for beginning, name in _BEGINNINGS.items():
    if head.startswith(beginning):
      compression = compression or name
  if compression and head:
    return _OPEN[compression](file)
  if head.startswith((b"\xff\xfe", b"\xfe\xff")):
    raise LocationError("it is UTF-16 text; `iconv -f UTF-16 -t UTF-8 FILE > NEW` makes it UTF-8")
  if head.startswith((b"PK\x03\x04", b"PAR1", b"ARROW1")):
    kind = "a zip archive" if head.startswith(b"PK") else "a parquet or Arrow file"
    raise LocationError(f"it is {kind}, whatever its name says; unpack or rename it")
  return file


def decode(data: bytes) -> str:
  """The text; bytes that are not UTF-8 become lone surrogates."""
  return data.decode("utf-8", errors="surrogateescape")
