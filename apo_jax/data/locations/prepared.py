"""tfds://: data sets that TFDS has prepared."""

from collections.abc import Iterator, Mapping
from typing import Any

from apo_jax.data.locations.errors import LocationError, first_line
from apo_jax.data.locations.options import name_and_options
from apo_jax.data.locations.rows import Row
from apo_jax.data.locations.texts import decode

_OPTIONS = ("split", "data_dir")
_ROWS_AT_ONCE = 1024


def prepared_rows(rest: str) -> Iterator[Row]:
  """The rows of what follows tfds://."""
  name, options = name_and_options(rest, _OPTIONS)
  import tensorflow_datasets as tfds  # takes seconds

  try:
    # Nothing is downloaded: many processes of one run would do so at once.
    source = tfds.data_source(
      name, split=options.get("split", "train"), data_dir=options.get("data_dir"), download=False
    )
    for start in range(0, len(source), _ROWS_AT_ONCE):
      indices = range(start, min(start + _ROWS_AT_ONCE, len(source)))
      yield from map(_plain, source.__getitems__(indices))
  except Exception as error:
    raise LocationError(
      f"{first_line(error)}; it must be a TFDS data set that is prepared as ArrayRecord files in"
      " data_dir"
    ) from error


def _plain(value: Any) -> Any:
  """What TFDS reads, in JSON's types."""
  if isinstance(value, bytes):
    return decode(value)
  if isinstance(value, Mapping):
    return {name: _plain(item) for name, item in value.items()}
  if hasattr(value, "tolist"):
    return _plain(value.tolist())
  return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
