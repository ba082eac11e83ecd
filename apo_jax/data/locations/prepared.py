"""tfds://: data sets that TFDS has prepared."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from apo_jax.data.locations.errors import LocationError, first_line
from apo_jax.data.locations.options import name_and_options
from apo_jax.data.locations.rows import Row
from apo_jax.data.locations.texts import decode

_OPTIONS = ("split", "data_dir")
_ROWS_AT_ONCE = 1024
# A name with a namespace, as "kaggle:NAME", is of code that TFDS fetches.
_NAME = re.compile(r"\w+(/[\w.+-]+)?(:[\d*][\d.*]*)?")
_CLASS = ("pythonClassName", "python_class_name")
_OWN_CLASSES = "tensorflow_datasets.core.features."


def prepared_rows(rest: str) -> Iterator[Row]:
  """The rows of what follows tfds://."""
  name, options = name_and_options(rest, _OPTIONS)
  if not _NAME.fullmatch(name):
    raise LocationError("its name must be NAME, NAME/CONFIG or NAME:VERSION; others run code")
  import tensorflow_datasets as tfds  # takes seconds

  root = epath.Path(options.get("data_dir") or tfds.core.constants.DATA_DIR)
  _check_features(root / name.partition(":")[0].partition("/")[0])
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


def _check_features(directory: epath.Path) -> None:
  """Checks the classes that a prepared data set names: TFDS would import the module of any.

  Raises:
    LocationError: one is none of its own.
  """
  # DIRECTORY/VERSION/features.json, or with a config between.
  for file in (*directory.glob("*/features.json"), *directory.glob("*/*/features.json")):
    try:
      named = set(_classes(json.loads(file.read_text())))
    except (OSError, ValueError, RecursionError) as error:
      raise LocationError(f"its {file} is not JSON: {first_line(error)}") from error
    other = sorted(str(one) for one in named if not str(one).startswith(_OWN_CLASSES))
    if other:
      raise LocationError(f"its {file} names {other[0]!r}, which is none of TFDS's own features")


def _classes(features: Any) -> Iterator[Any]:
  """The names of classes in a features.json."""
  if isinstance(features, Mapping):
    for name, value in features.items():
      if name in _CLASS:
        yield value
      yield from _classes(value)
  elif isinstance(features, list):
    for value in features:
      yield from _classes(value)


def _plain(value: Any) -> Any:
  """What TFDS reads, in JSON's types."""
  if isinstance(value, bytes):
    return decode(value)
  if isinstance(value, Mapping):
    return {name: _plain(item) for name, item in value.items()}
  if hasattr(value, "tolist"):
    return _plain(value.tolist())
  return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
