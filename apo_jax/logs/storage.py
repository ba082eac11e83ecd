"""What is said where a disk or directory cannot be written, in one sentence.

Writers raise in their own ways: Python an OSError, Orbax and TensorStore errors that hold its
words, often from other threads and as the cause of something else. `problem_of` finds it there.
Those of a bucket are told by the library that raises them.
"""

import errno
import os
import shutil
from collections.abc import Iterator

from apo_jax.config.fields import ConfigError
from apo_jax.logs.places import Place, is_bucket, reason_of

# What the system calls them, and what each means for whoever runs this.
_PROBLEMS = {
  errno.ENOSPC: "has no space left",
  errno.EDQUOT: "has no space left within the quota",
  errno.EFBIG: "may not hold a file of that size",
  errno.EROFS: "is read-only",
  errno.EACCES: "may not be written by this user",
  errno.EPERM: "may not be written by this user",
  errno.EIO: "answers with an input/output error",
  errno.ESTALE: "is no longer mounted as it was",
}
# Paths that are no such thing as what they are used for.
_WRONG_PATHS = {
  errno.ENOTDIR: "is no directory, or lies below a file",
  errno.EISDIR: "is a directory in the place of a file",
  errno.ENAMETOOLONG: "has too long a name",
  errno.ELOOP: "is a link that leads in a circle",
}


# The libraries that read and write buckets, and what TensorStore's errors name.
_OF_BUCKETS = ("gcsfs.", "google.api_core.", "google.auth.", "google.cloud.", "google.resumable")
_IN_BUCKETS = ("storage.googleapis.com", "/storage/v1/b/")
# Where a run lies in a bucket, these are of it too.
_OF_NETWORKS = ("google.", "aiohttp.", "requests.", "urllib3.")


def problem_of(error: BaseException, run_dir: Place) -> str | None:
  """The sentence, where an error is of storage; else None.

  Args:
    error: what ended a run; what caused it, and what it was raised beside, are looked at too.
    run_dir: of the run, which is named where the error names no file.
  """
  if is_bucket(run_dir):
    return _bucket_problem(error, run_dir)
  for one in chain(error):
    if _is_of_bucket(one):  # which is read, and the results are written here
      return f"A bucket cannot be read ({reason_of(one)}); the same command tries again."
    if isinstance(one, FileNotFoundError) and not run_dir.exists():
      return f"{run_dir} is gone; what was played is lost with it unless it comes back."
    if isinstance(one, OSError) and one.errno in _WRONG_PATHS and one.filename:
      return f"{one.filename} {_WRONG_PATHS[one.errno]}; name, or make, what is wanted there."
    number = one.errno if isinstance(one, OSError) else _number_in(str(one))
    if number in _PROBLEMS:
      place = getattr(one, "filename", None) or run_dir
      return (
        f"{place} cannot be written: its disk {_PROBLEMS[number]} ({_free(run_dir)} free). What is"
        " finished is kept; mend that, and the same command goes on."
      )
  return None


def check_room(run_dir: Place, needed: int, what: str) -> None:
  """Checks that a disk has room for what is about to be written.

  Args:
    run_dir: a directory on it.
    needed: bytes.
    what: that is written, for the error.

  Raises:
    ConfigError: it has not; names both numbers.
  """
  free = shutil.disk_usage(run_dir).free
  if free < needed:
    raise ConfigError(
      f"{run_dir} has {free / 1e6:,.1f} MB free, and {what} takes {needed / 1e6:,.1f} MB. What is"
      " finished is kept; make room, and the same command goes on."
    )


def _bucket_problem(error: BaseException, run_dir: Place) -> str | None:
  """The same of a bucket, whose libraries have tried again for as long as it is worth it."""
  for one in chain(error):
    is_near = f"{type(one).__module__}.".startswith(_OF_NETWORKS) or "gs://" in str(one)
    if is_near or isinstance(one, OSError) or _is_of_bucket(one):
      return (
        f"{run_dir} cannot be read or written ({reason_of(one)}). What is finished is kept; mend"
        " that, and the same command goes on."
      )
  return None


def _is_of_bucket(error: BaseException) -> bool:
  is_theirs = f"{type(error).__module__}.".startswith(_OF_BUCKETS)
  return is_theirs or any(word in str(error) for word in _IN_BUCKETS)


def chain(error: BaseException) -> Iterator[BaseException]:
  """An error, and all that it was raised for or beside."""
  waiting: list[BaseException | None] = [error]
  seen: set[int] = set()
  while waiting:
    one = waiting.pop()
    if one is None or id(one) in seen:
      continue
    seen.add(id(one))
    yield one
    waiting += [one.__cause__, one.__context__]
    if isinstance(one, BaseExceptionGroup):
      waiting += one.exceptions


def _number_in(text: str) -> int | None:
  """The system's number of an error that a text repeats in the system's words."""
  return next((number for number in _PROBLEMS if os.strerror(number) in text), None)


def _free(directory: Place) -> str:
  try:
    return f"{shutil.disk_usage(directory).free / 1e6:,.1f} MB"
  except OSError:
    return "an unknown number of bytes"
