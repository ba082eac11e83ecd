"""The lock of a run directory in a bucket: one run plays in it at a time.

An object names the owner. Each write of it is conditional: on there being none, or on the
generation that was read, a number that the bucket gives to whatever is written under a name. So of
several that take it at once one succeeds. The owner writes it again every few seconds, by which
whoever watches sees another generation. No clocks are compared: the age of the last one is told by
the bucket.

A conditional write whose answer was lost is refused when it is tried again; whose token the object
has says whether it had succeeded.
"""

import contextlib
import functools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from apo_jax.config.fields import ConfigError
from apo_jax.logs.places import Place, bucket_and_name, bucket_client, reason_of
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

_SECONDS_TO_CONFIRM = 0.5
_TRIES = 5  # an owner may end, and another begin, while it is looked at
_NONE = 0  # the generation of what is not there


class _Seen(NamedTuple):
  """The object as it was read.

  Attributes:
    owner: whom it names; None where there is no object, or it is damaged, which nobody keeps alive.
    generation: 0 where there is none.
    written: when, by the bucket's clock.
  """

  owner: Owner | None
  generation: int
  written: datetime | None


@contextlib.contextmanager
def owned(path: Place, say: Callable[[str], None]) -> Iterator[None]:
  """Owns a run directory of a bucket while the block runs, as `lock.owned` does.

  Args:
    path: the lock's object, in the directory.
    say: told where the object is watched.

  Raises:
    ConfigError: another process owns the directory, or the bucket cannot be written.
  """
  me, place = this_process(), _Object(path)
  try:
    _take(place, me, say)
  except ConfigError:
    raise
  except Exception as error:  # of credentials, of the network, of the bucket
    raise ConfigError(
      f"--run_dir is {str(path.parent)!r}, which cannot be written: {reason_of(error)}."
    ) from error
  try:
    with kept_alive(functools.partial(_touch, place, me), Exception):
      yield
  finally:
    with contextlib.suppress(Exception):  # whoever comes next finds this process gone
      seen = place.read()
      if seen.owner == me:
        place.delete(seen.generation)


class _Object:
  """The lock's object, read and written by generations."""

  def __init__(self, path: Place):
    bucket, self._name = bucket_and_name(path)
    self._bucket = bucket_client().bucket(bucket)
    self.path = path

  def read(self) -> _Seen:
    """The object as it is."""
    from google.api_core.exceptions import NotFound

    blob = self._bucket.get_blob(self._name)
    if blob is None:
      return _Seen(None, _NONE, None)
    try:
      owner = owner_in(blob.download_as_bytes())
    except NotFound:  # its owner has just ended
      return _Seen(None, _NONE, None)
    return _Seen(owner, blob.generation, blob.updated)

  def write(self, owner: Owner, generation: int) -> bool:
    """Writes it, if it still is of this generation; whether it was."""
    from google.api_core.exceptions import PreconditionFailed
    from google.cloud.storage.retry import DEFAULT_RETRY

    try:
      self._bucket.blob(self._name).upload_from_string(
        json.dumps(owner._asdict()),
        content_type="application/json",
        if_generation_match=generation,
        retry=DEFAULT_RETRY,
      )
    except PreconditionFailed:
      return self.read().owner == owner
    return True

  def delete(self, generation: int) -> None:
    """Deletes it, if it still is of this generation."""
    self._bucket.blob(self._name).delete(if_generation_match=generation)

  def age(self, seen: _Seen) -> float:
    """Seconds since it was written, by the clock of the bucket."""
    if seen.written is None:
      return SECONDS_UNTIL_GONE
    from google.cloud.storage.retry import DEFAULT_RETRY

    folder, _, name = self._name.rpartition("/")
    probe = self._bucket.blob(f"{folder}/.{name}.{uuid.uuid4().hex}.tmp")
    probe.upload_from_string(b"", retry=DEFAULT_RETRY)
    try:
      return (probe.updated - seen.written).total_seconds()
    finally:
      probe.delete(if_generation_match=probe.generation)


def _take(place: _Object, me: Owner, say: Callable[[str], None]) -> None:
  for _ in range(_TRIES):
    seen = place.read()
    if seen.owner is not None and _is_alive(place, seen, say):
      raise refusal(place.path, seen.owner)
    if place.write(me, seen.generation):
      break
  else:
    raise refusal(place.path, place.read().owner)
  # For what does not hold conditions, as emulators of the bucket's API may not: the last one wins.
  time.sleep(_SECONDS_TO_CONFIRM)
  owner = place.read().owner
  if owner != me:
    raise refusal(place.path, owner)


def _is_alive(place: _Object, seen: _Seen, say: Callable[[str], None]) -> bool:
  known = known_to_live(seen.owner)
  if known is not None:
    return known
  left = SECONDS_UNTIL_GONE - place.age(seen)
  end = time.monotonic() + left
  if left > 0:
    say(watched(place.path, seen.owner, left))
  while time.monotonic() < end:
    time.sleep(min(1.0, SECONDS_UNTIL_GONE / 10))
    now = place.read()
    if now.generation != seen.generation:
      return now.owner is not None
  return False


def _touch(place: _Object, me: Owner) -> None:
  seen = place.read()
  if seen.owner in (me, None):
    place.write(me, seen.generation)
  else:
    taken_over(place.path, seen.owner)
