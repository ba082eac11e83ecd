"""Locks between processes: a file that one of them holds, and that names it.

The system lets go of a lock when its holder ends, however it ends: a lock is never left behind.
"""

import fcntl
import os
from pathlib import Path

from apo_jax.config.fields import ConfigError


class Lock:
  """A lock that this process holds; a context manager that lets go of it.

  Attributes:
    descriptor: of its file. A child that inherits it holds the lock too, until both have ended.
  """

  def __init__(self, descriptor: int):
    self.descriptor = descriptor

  def __enter__(self) -> "Lock":
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def close(self) -> None:
    """Lets go of it, unless a child has inherited it."""
    os.close(self.descriptor)


def try_lock(path: Path, holder: str) -> Lock | None:
  """Takes the lock of a file, which is made where it is missing; None where another holds it.

  Args:
    path: the file, which stays.
    holder: who takes it, for those who find it taken.

  Raises:
    ConfigError: the file system has no locks.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    os.close(descriptor)
    return None
  except OSError as error:
    os.close(descriptor)
    raise ConfigError(
      f"{path} cannot be locked ({error.strerror}); put it on a file system with locks."
    ) from error
  os.ftruncate(descriptor, 0)
  os.write(descriptor, holder.encode())
  return Lock(descriptor)


def holder_of(path: Path) -> str:
  """Who holds the lock of a file, or held it last."""
  return path.read_text(encoding="utf-8", errors="replace") or "another process"
