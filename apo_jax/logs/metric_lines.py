"""Where the lines of a run's metrics are kept.

In the file system they are appended to metrics.jsonl. An append to a file of a bucket would write
all of it again, so there they are collected, and each `sync` makes a segment of what has come:
metrics/000001.jsonl and so on, one object each. A run directory that was copied from a bucket, or
into one, may hold both, first the file and then the segments.
"""

import abc
import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from apo_jax.logs.files import json_line, read_jsonl, write_bytes, write_jsonl
from apo_jax.logs.places import Place, is_bucket, read_objects, remove_tree
from apo_jax.logs.run_directory import RunDirectory

Row = Mapping[str, Any]

# The fields that say when and where a line's values were measured, which every line has.
_PLACE_TYPES = {"time": (int, float), "round": int, "phase": str, "step": int}
PLACE = tuple(_PLACE_TYPES)

# Without a checkpoint in between, whoever looks into a bucket sees lines after so long.
_SECONDS_BETWEEN_SEGMENTS = 60.0


class Lines(abc.ABC):
  """The lines of one run, which this process alone writes.

  Attributes:
    mended: lines that were broken when they were opened, and are dropped.
  """

  mended: int

  @abc.abstractmethod
  def rows(self) -> list[Row]:
    """All of them, in order."""

  @abc.abstractmethod
  def append(self, row: Row) -> None:
    """Adds one."""

  @abc.abstractmethod
  def sync(self) -> None:
    """Waits until all are where a loss of power does not reach them."""

  @abc.abstractmethod
  def keep(self, is_kept: Callable[[Row], bool]) -> bool:
    """Drops the others; whether there were any."""

  @abc.abstractmethod
  def close(self) -> None:
    """Ends writing."""


def open_lines(run_dir: Place) -> Lines:
  """The lines of a run, to be added to; broken ones are dropped."""
  return SegmentLines(run_dir) if is_bucket(run_dir) else FileLines(run_dir)


def read_metrics(run_dir: Place) -> list[dict[str, Any]]:
  """The lines of the run's metrics, without a torn last one; none if it has none.

  Raises:
    ValueError: a line other than a torn last one is not a JSON object.
  """
  place = RunDirectory(run_dir)
  rows = read_jsonl(place.metrics, ignore_torn_end=True) if place.metrics.exists() else []
  segments = _segments(run_dir)
  # `FileLines` may have been stopped between taking segments in and deleting them.
  seen = {json_line(row) for row in rows} if segments else set()
  for path, content in segments:
    rows += [row for row in read_jsonl(path, content=content) if json_line(row) not in seen]
  return rows


def good_lines(run_dir: Place) -> list[dict[str, Any]]:
  """The same where lines may be broken, which are left out; so are files that cannot be read."""
  place = RunDirectory(run_dir)
  found: list[dict[str, Any]] = []
  with contextlib.suppress(OSError):
    found = _good(place.metrics.read_bytes().split(b"\n")[:-1])
  with contextlib.suppress(OSError):
    segments = _segments(run_dir)
    seen = {json_line(row) for row in found} if segments else set()
    for _, content in segments:
      found += [row for row in _good(content.split(b"\n")) if json_line(row) not in seen]
  return found


def record_of(run_dir: Place) -> Place:
  """The file of the lines, or the folder of their segments where that alone is there."""
  place = RunDirectory(run_dir)
  in_segments = is_bucket(run_dir) or place.metrics_segments.exists()
  return place.metrics_segments if in_segments and not place.metrics.exists() else place.metrics


class FileLines(Lines):
  """metrics.jsonl; segments that were copied beside it are taken into it."""

  def __init__(self, run_dir: Place):
    run_dir.mkdir(parents=True, exist_ok=True)
    place = RunDirectory(run_dir)
    self._run_dir, self._path = run_dir, place.metrics
    self.mended = _mend(self._path) if self._path.exists() else 0
    if _segments(run_dir):
      write_jsonl(self._path, read_metrics(run_dir))
      remove_tree(place.metrics_segments)
    self._file = _open_to_append(self._path)

  def rows(self) -> list[Row]:
    """All of them, in order."""
    return read_metrics(self._run_dir)

  def append(self, row: Row) -> None:
    """Adds one, flushed."""
    self._file.write(json_line(row) + "\n")
    self._file.flush()

  def sync(self) -> None:
    """Waits until all are on the disk."""
    os.fsync(self._file.fileno())

  def keep(self, is_kept: Callable[[Row], bool]) -> bool:
    """Drops the others, at once; whether there were any."""
    rows = self.rows()
    kept = [row for row in rows if is_kept(row)]
    if len(kept) == len(rows):
      return False
    self._file.close()
    write_jsonl(self._path, kept)
    self._file = _open_to_append(self._path)
    return True

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


class SegmentLines(Lines):
  """Segments in a bucket, held in memory too: nobody else writes them."""

  def __init__(self, run_dir: Place):
    place = RunDirectory(run_dir)
    self._folder = place.metrics_segments
    found = _segments(run_dir)
    if place.metrics.exists():
      found.insert(0, (place.metrics, place.metrics.read_bytes()))
    self.mended = 0
    self._segments: dict[Place, list[Row]] = {}
    self._waiting: list[Row] = []
    self._written = time.monotonic()
    for path, content in found:
      lines = [line for line in content.split(b"\n") if line]
      self._segments[path] = _good(lines)
      if len(self._segments[path]) < len(lines):
        self.mended += len(lines) - len(self._segments[path])
        self._write(path)

  def rows(self) -> list[Row]:
    """All of them, in order."""
    return [row for rows in self._segments.values() for row in rows] + self._waiting

  def append(self, row: Row) -> None:
    """Adds one, which is in the bucket after the next `sync`, or a minute."""
    self._waiting.append(row)
    if time.monotonic() - self._written > _SECONDS_BETWEEN_SEGMENTS:
      self.sync()

  def sync(self) -> None:
    """Writes what has come as a segment."""
    self._written = time.monotonic()
    if not self._waiting:
      return
    last = max((int(path.stem) for path in self._segments if path.stem.isdecimal()), default=0)
    path = self._folder / f"{last + 1:06d}.jsonl"
    self._segments[path], self._waiting = self._waiting, []
    self._write(path)

  def keep(self, is_kept: Callable[[Row], bool]) -> bool:
    """Drops the others, segment by segment; whether there were any.

    The last ones go first, so that a stop in between leaves what a shorter run would have left.
    """
    before = len(self.rows())
    self._waiting = [row for row in self._waiting if is_kept(row)]
    for path in reversed(self._segments):
      kept = [row for row in self._segments[path] if is_kept(row)]
      if len(kept) < len(self._segments[path]):
        self._segments[path] = kept
        self._write(path)
    self._segments = {path: rows for path, rows in self._segments.items() if rows}
    return len(self.rows()) < before

  def close(self) -> None:
    """Writes what has come."""
    self.sync()

  def _write(self, path: Place) -> None:
    if self._segments[path]:
      write_jsonl(path, self._segments[path])
    else:
      path.unlink(missing_ok=True)


def _segments(run_dir: Place) -> list[tuple[Place, bytes]]:
  """The segments and what they hold, in order."""
  paths = sorted(RunDirectory(run_dir).metrics_segments.glob("*.jsonl"), key=lambda path: path.name)
  return list(zip(paths, read_objects(paths), strict=True))


def _mend(path: Place) -> int:
  """Drops what is no line of metrics; how many there were, the last one, if torn, left out.

  A line is written with its newline, or not whole. After a loss of power a file may also end in
  zeros, or hold a broken line before others: those are of updates behind the last checkpoint, which
  are made again. Lines of finished phases have hashes (run/records.py): a start without --repair
  has refused broken ones before it comes here.
  """
  *lines, torn = path.read_bytes().split(b"\n")
  good = [line for line in lines if _is_line(line)]
  if torn or len(good) < len(lines):
    write_bytes(path, b"".join(line + b"\n" for line in good))
  return len(lines) - len(good)


def _good(lines: Sequence[bytes]) -> list[dict[str, Any]]:
  return [json.loads(line) for line in lines if _is_line(line)]


def _is_line(line: bytes) -> bool:
  try:
    row = json.loads(line)
  except ValueError:
    return False
  return isinstance(row, dict) and all(
    isinstance(row.get(name), kind) for name, kind in _PLACE_TYPES.items()
  )


def _open_to_append(path: Place) -> TextIO:
  return open(path, "a", encoding="utf-8", newline="\n")
