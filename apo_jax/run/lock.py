"""The lock of a run directory: one run plays in it at a time, on whatever file system it is.

A bucket's is in bucket_lock.py.

A file names the owner, and the owner touches it every few seconds for as long as it lives. No lock
of the system is used, which network file systems may not hold, and no clocks are compared: the age
of the last touch is told by the file system itself.
"""

import contextlib
import functools
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from apo_jax.config import command_line
from apo_jax.config.fields import ConfigError
from apo_jax.devices.processes import of_the_first
from apo_jax.logs.files import write_json
from apo_jax.logs.places import is_bucket
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run import bucket_lock
from apo_jax.run.owner import (
  SECONDS_UNTIL_GONE,
  Owner,
  kept_alive,
  known_to_live,
  owner_in,
  refusal,
  taken_over,
  this_process,
  watched,
)

# A name that ours have before they take their own, with the number of a UUID in it.
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


@contextlib.contextmanager
def owned(path: Path, say: Callable[[str], None]) -> Iterator[None]:
  """Owns a run directory while the block runs.

  A directory whose owner is gone is taken over. Of an owner on this machine that is known at once;
  another's file is watched until it is touched or `SECONDS_UNTIL_GONE` old.

  Args:
    path: the lock's file, in the directory.
    say: told where the file is watched.

  Raises:
    ConfigError: another process owns the directory.
  """
  me = this_process()
  _take(path, me, say)
  try:
    with kept_alive(functools.partial(_touch, path, me), OSError):
      yield
  finally:
    if _read(path) == me:
      path.unlink(missing_ok=True)


@contextlib.contextmanager
def owned_by_run(directory: RunDirectory) -> Iterator[None]:
  """The same of a run: its first process owns the directory, and all end where it may not.

  What a killed owner left half-written is removed.
  """
  with contextlib.ExitStack() as held:
    problem = None
    if jax.process_index() == 0:
      try:
        own = bucket_lock.owned if is_bucket(directory.path) else owned
        held.enter_context(own(directory.owner, command_line.say))
        remove_leftovers(directory)
      except ConfigError as error:
        problem = error
    if of_the_first(int(problem is not None)):
      raise problem or ConfigError(f"Process 0 may not play in {directory}.")
    yield


def remove_leftovers(directory: RunDirectory) -> None:
  """Removes files that were to take the place of others when their writer was killed."""
  # In a bucket, whose every write is one act, only the lock leaves anything.
  find = directory.path.glob if is_bucket(directory.path) else directory.path.rglob
  for path in find(".*.tmp"):
    if _LEFTOVER.fullmatch(path.name) and path.is_file():
      path.unlink(missing_ok=True)


def _take(path: Path, me: Owner, say: Callable[[str], None]) -> None:
  made = path.with_name(f".{path.name}.{me.token}.tmp")
  try:
    write_json(made, me._asdict())
    try:
      os.link(made, path)  # fails where the file is there, on every file system that has links
      return
    except FileExistsError:
      pass
    except OSError:
      if not path.exists():
        os.replace(made, path)
        _confirm(path, me)
        return
    owner = _read(path)
    if owner is not None and _is_alive(path, owner, say):
      raise refusal(path, owner)
    os.replace(made, path)
    _confirm(path, me)
  finally:
    made.unlink(missing_ok=True)


def _confirm(path: Path, me: Owner) -> None:
  """Of several that take over at once, the last one owns the directory."""
  time.sleep(0.2)
  owner = _read(path)
  if owner != me:
    raise refusal(path, owner)


def _is_alive(path: Path, owner: Owner, say: Callable[[str], None]) -> bool:
  known = known_to_live(owner)
  if known is not None:
    return known
  touched, told = _touched(path), False
  while (age := _now(path) - _touched(path)) < SECONDS_UNTIL_GONE:
    if not told:
      told = True
      say(watched(path, owner, SECONDS_UNTIL_GONE - age))
    time.sleep(min(1.0, SECONDS_UNTIL_GONE - age))
    if _touched(path) != touched:
      return True
  return False


def _touch(path: Path, me: Owner) -> None:
  owner = _read(path)
  if owner == me:
    os.utime(path)
  elif owner is not None:
    taken_over(path, owner)


def _read(path: Path) -> Owner | None:
  """Who owns it; None where there is no such file, or it is damaged, which nobody keeps alive."""
  try:
    return owner_in(path.read_bytes())
  except OSError:
    return None


def _touched(path: Path) -> float:
  try:
    return path.stat().st_mtime
  except FileNotFoundError:  # the owner has ended
    return 0.0


def _now(path: Path) -> float:
  """The time by the clock of the file system."""
  probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
  try:
    probe.touch()
    return probe.stat().st_mtime
  finally:
    probe.unlink(missing_ok=True)
