"""The small JSON files of a checkpoint."""

import json
from pathlib import Path
from typing import Any

from apo_jax.config.fields import ConfigError

_LARGEST = 32 * 2**20  # bytes; the largest that is published has less than one MiB


def read_json(path: Path, field: str) -> dict[str, Any]:
  """What a file of a checkpoint says.

  Args:
    path: of the file, in the checkpoint's directory.
    field: the config field that named the checkpoint, for errors.

  Raises:
    ConfigError: there is none, or it holds no JSON object.
  """
  where = f"{field} is {str(path.parent)!r}, whose {path.name}"
  try:
    if path.exists() and not path.is_file():  # a pipe would be waited for
      raise ConfigError(f"{where} is no file; it must be one that holds a JSON object.")
    if path.stat().st_size > _LARGEST:
      raise ConfigError(
        f"{where} has {path.stat().st_size:,} bytes; it must have at most {_LARGEST:,}."
      )
    given = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError as error:
    raise ConfigError(
      f"{field} is {str(path.parent)!r}, which has no {path.name}; it must be a directory with "
      f"{path.name} and safetensors files."
    ) from error
  except OSError as error:
    raise ConfigError(f"{where} cannot be read ({error.strerror or error}).") from error
  except ConfigError:
    raise
  except (ValueError, RecursionError) as error:
    raise ConfigError(f"{where} is not JSON.") from error
  if not isinstance(given, dict):
    raise ConfigError(f"{where} is no JSON object.")
  return given
