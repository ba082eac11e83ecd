"""The lock of a run directory: one run plays in it at a time, on whatever file system it is.

A file names the owner, and the owner touches it every few seconds for as long as it lives. No lock
of the system is used, which network file systems may not hold, and no clocks are compared: the age
of the last touch is told by the file system itself.
"""

import contextlib
import functools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from apo_jax.config.fields import ConfigError
from apo_jax.config.visible import visible
from apo_jax.devices.processes import of_the_first
from apo_jax.logs.files import write_json
from apo_jax.logs.run_directory import RunDirectory

# An owner whose file was not touched for so long is gone: a few touches may be late.
SECONDS_BETWEEN_TOUCHES = 10.0
SECONDS_UNTIL_GONE = 60.0


class Owner(NamedTuple):
  """A process that plays in a run directory.

  Attributes:
    host: its name.
    space: the running system and the space of its process ids, in which `process` means something.
    process: its id.
    began: when the process was started, in the system's ticks; ids are given again.
    since: the time of day, for people.
    token: of this lock alone.
  """

  host: str
  space: str
  process: int
  began: int
  since: str
  token: str

  @property
  def words(self) -> str:
    """Who it is, for people."""
    return f"process {self.process} of {self.host}, since {self.since}"


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
  me = _this_process()
  _take(path, me, say)
  stop = threading.Event()
  toucher = threading.Thread(target=_keep_touching, args=(path, me, stop), daemon=True)
  toucher.start()
  try:
    yield
  finally:
    stop.set()
    toucher.join()
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
        held.enter_context(owned(directory.owner, functools.partial(print, flush=True)))
        remove_leftovers(directory)
      except ConfigError as error:
        problem = error
    if of_the_first(int(problem is not None)):
      raise problem or ConfigError(f"Process 0 may not play in {directory}.")
    yield


def remove_leftovers(directory: RunDirectory) -> None:
  """Removes files that were to take the place of others when their writer was killed."""
  for path in directory.path.rglob(".*.tmp"):
    if path.is_file():
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
      raise _refusal(path, owner)
    os.replace(made, path)
    _confirm(path, me)
  finally:
    made.unlink(missing_ok=True)


def _confirm(path: Path, me: Owner) -> None:
  """Of several that take over at once, the last one owns the directory."""
  time.sleep(0.2)
  owner = _read(path)
  if owner != me:
    raise _refusal(path, owner)


def _refusal(path: Path, owner: Owner | None) -> ConfigError:
  who = owner.words if owner else "another process"
  return ConfigError(
    f"--run_dir is {str(path.parent)!r}, in which {who} plays; wait for it, end it, or give"
    " another --run_dir."
  )


def _is_alive(path: Path, owner: Owner, say: Callable[[str], None]) -> bool:
  if owner.space.strip() and owner.space == _space():
    return _began(owner.process) == owner.began
  touched, told = _touched(path), False
  while (age := _now(path) - _touched(path)) < SECONDS_UNTIL_GONE:
    if not told:
      told = True
      say(
        f"{path.parent} belongs to {owner.words}; waiting up to {SECONDS_UNTIL_GONE - age:.0f} s to"
        " see whether it lives."
      )
    time.sleep(min(1.0, SECONDS_UNTIL_GONE - age))
    if _touched(path) != touched:
      return True
  return False


def _keep_touching(path: Path, me: Owner, stop: threading.Event) -> None:
  while not stop.wait(SECONDS_BETWEEN_TOUCHES):
    # A file that cannot be read or touched for a while is no reason to end a run.
    with contextlib.suppress(OSError):
      owner = _read(path)
      if owner == me:
        os.utime(path)
      elif owner is not None:
        # This process was stopped for so long that it counted as gone. Whatever it does from here
        # on, two runs would write to one directory.
        print(
          visible(f"apo_jax: {path.parent} was taken over by {owner.words}; this process ends.")
        )
        os._exit(2)


def _read(path: Path) -> Owner | None:
  """Who owns it; None where there is no such file, or it is damaged, which nobody keeps alive."""
  try:
    return Owner(**json.loads(path.read_bytes()))
  except (OSError, ValueError, TypeError):
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


def _this_process() -> Owner:
  process = os.getpid()
  since = time.strftime("%Y-%m-%d %H:%M:%S")
  return Owner(
    socket.gethostname(), _space(), process, _began(process) or 0, since, uuid.uuid4().hex
  )


def _space() -> str:
  """The running system, and which of its spaces of process ids this is."""
  return f"{_text('/proc/sys/kernel/random/boot_id')} {_link('/proc/self/ns/pid')}"


def _began(process: int) -> int | None:
  """When a process was started, in ticks since the system was; None where there is none."""
  stat = _text(f"/proc/{process}/stat")
  # Its name, in parentheses, may hold anything. A dead one waits for its parent as Z.
  fields: list[Any] = stat.rpartition(")")[2].split()
  return int(fields[19]) if len(fields) > 19 and fields[0] != "Z" else None


def _text(path: str) -> str:
  try:
    return Path(path).read_text(encoding="utf-8", errors="replace").strip()
  except OSError:
    return ""


def _link(path: str) -> str:
  try:
    return os.readlink(path)
  except OSError:
    return ""
