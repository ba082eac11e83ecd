"""Whether a folder that a flag names can be written, found out before any work is done."""

import contextlib
import os
from pathlib import Path

from apo_jax.config.fields import ConfigError


def check_folder(flag: str, path: Path) -> None:
  """Checks that a path is a directory that can be written, or could become one; makes nothing.

  Args:
    flag: what named the path, such as "--run_dir".
    path: of the file system.

  Raises:
    ConfigError: it is a file, a link to nowhere, below one of these, or may not be written.
  """
  problem = problem_of_folder(path)
  if problem:
    raise ConfigError(f"{flag} is {str(path)!r}, which cannot be used: {problem}.")


def problem_of_folder(path: Path) -> str:
  """Why a path is no directory that can be written, nor could become one; "" where it is."""
  whole = path.absolute()
  there = next(one for one in (whole, *whole.parents) if os.path.lexists(one))
  try:
    for name in ("", *whole.parts[len(there.parts) :]):
      # The system looks at a name only in a directory that is there.
      with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(there / name)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
      os.lstat(whole)
  except OSError as error:
    return str(error.strerror)
  if there.is_symlink() and not there.exists():
    return f"{str(there)!r} is a link to {os.readlink(there)!r}, where nothing is"
  if not there.is_dir():
    return f"{str(there)!r} is no directory"
  if not os.access(there, os.W_OK | os.X_OK):
    return f"{str(there)!r} cannot be written"
  return ""
