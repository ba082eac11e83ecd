"""Who plays in a run directory, and whether a process of this machine still lives."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from apo_jax.config.fields import ConfigError
from apo_jax.config.visible import visible
from apo_jax.logs.places import Place

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


def owner_in(content: bytes) -> Owner | None:
  """Whom an owner's file names; None where it is damaged, which nobody keeps alive."""
  try:
    owner = Owner(**json.loads(content))
  except (RecursionError, TypeError, ValueError):
    return None
  kinds = Owner.__annotations__.items()
  return owner if all(isinstance(getattr(owner, name), kind) for name, kind in kinds) else None


def this_process() -> Owner:
  """This process, with a token of its own."""
  process = os.getpid()
  since = time.strftime("%Y-%m-%d %H:%M:%S")
  return Owner(
    socket.gethostname(), _space(), process, _began(process) or 0, since, uuid.uuid4().hex
  )


@contextlib.contextmanager
def kept_alive(touch: Callable[[], None], unless: type[Exception]) -> Iterator[None]:
  """Touches an owner's file again and again while the block runs.

  Args:
    touch: does it once.
    unless: what it may raise: a place that cannot be reached for a while is no reason to end a run.
  """
  stop = threading.Event()

  def keep() -> None:
    while not stop.wait(SECONDS_BETWEEN_TOUCHES):
      with contextlib.suppress(unless):
        touch()

  toucher = threading.Thread(target=keep, daemon=True)
  toucher.start()
  try:
    yield
  finally:
    stop.set()
    toucher.join()


def refusal(path: Place, owner: Owner | None) -> ConfigError:
  """What is said to whoever finds a directory owned."""
  who = owner.words if owner else "another process"
  return ConfigError(
    f"--run_dir is {str(path.parent)!r}, in which {who} plays; wait for it, end it, or give"
    " another --run_dir."
  )


def watched(path: Place, owner: Owner, seconds: float) -> str:
  """What is said while an owner of another machine is watched."""
  return (
    f"{path.parent} belongs to {owner.words}; waiting up to {seconds:.0f} s to see whether it"
    " lives."
  )


def taken_over(path: Place, owner: Owner) -> NoReturn:
  """Ends this process, which was stopped for so long that it counted as gone.

  Whatever it did from here on, two runs would write to one directory.
  """
  print(
    visible(f"apo_jax: {path.parent} was taken over by {owner.words}; this process ends."),
    flush=True,
  )
  os._exit(2)


def known_to_live(owner: Owner) -> bool | None:
  """Whether an owner of this machine lives; None of another's, which only its file can tell."""
  if owner.space.strip() and owner.space == _space():
    return _began(owner.process) == owner.began
  return None


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
