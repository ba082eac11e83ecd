"""Which reader a location is for."""

import fsspec

from apo_jax.data.locations.errors import LocationError
from apo_jax.data.locations.files import file_rows
from apo_jax.data.locations.hub import hub_address, hub_rows, is_hub_path
from apo_jax.data.locations.prepared import prepared_rows
from apo_jax.data.locations.rows import Rows


def read_rows(location: str) -> Rows:
  """The rows of a path or URI, in their order, as they are read.

  Raises:
    LocationError: at once or in the middle: there is nothing, or nothing readable, at the location.
  """
  location = hub_address(location)
  scheme, separator, rest = location.partition("://")
  if separator and scheme == "hf" and not is_hub_path(rest):
    return Rows([("", hub_rows(rest))])
  if separator and scheme == "tfds":
    return Rows([("", prepared_rows(rest))])
  if separator and scheme not in fsspec.available_protocols():
    raise LocationError(f"its scheme is {scheme!r}; it must be hf, tfds or one of fsspec's, as gs")
  return file_rows(location)
