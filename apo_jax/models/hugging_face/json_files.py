"""The small JSON files of a checkpoint."""

import json
from pathlib import Path
from typing import Any

from apo_jax.config.fields import ConfigError


def read_json(path: Path, field: str) -> dict[str, Any]:
  """What a file of a checkpoint says.

  Args:
    path: of the file, in the checkpoint's directory.
    field: the config field that named the checkpoint, for errors.

  Raises:
    ConfigError: there is none, or it holds no JSON object.
  """
  try:
    given = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError as error:
    raise ConfigError(
      f"{field} is {str(path.parent)!r}, which has no {path.name}; it must be a directory with "
      f"{path.name} and safetensors files."
    ) from error
  except (OSError, RecursionError, ValueError) as error:
    raise ConfigError(f"{field} is {str(path.parent)!r}, whose {path.name} is not JSON.") from error
  if not isinstance(given, dict):
    raise ConfigError(f"{field} is {str(path.parent)!r}, whose {path.name} is no JSON object.")
  return given
