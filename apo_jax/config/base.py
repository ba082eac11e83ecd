"""Configs as files write them: the base with every field, of which an experiment changes some."""

import reprlib
from typing import Any

import ml_collections

from apo_jax.config.fields import ConfigError, write_fields
from apo_jax.config.schema import Config

# Of config.json. It grows when a field gets another name or meaning, so that a run directory is
# read by the code that understands it.
FORMAT = 4


def base_config() -> ml_collections.ConfigDict:
  """Every field with its default (schema.py), and a section for every choice."""
  return section(Config())


def section(values: Any) -> ml_collections.ConfigDict:
  """The fields of a dataclass of schema.py, such as `ShapeConfig(...)`, for a config file."""
  return ml_collections.ConfigDict(write_fields(values, all_choices=True))


def to_dict(config: Config) -> dict[str, Any]:
  """Returns the nested dict of `config` with lists for tuples, as JSON has them.

  `from_config_dict(ml_collections.ConfigDict(to_dict(config)))` is `config` again.
  """
  return _with_lists(write_fields(config))


def to_json(config: Config) -> dict[str, Any]:
  """What config.json holds: `to_dict`, complete, and the version of its format."""
  return {"format": FORMAT, **to_dict(config)}


def fields_of_json(known: Any, where: str) -> dict[str, Any]:
  """The fields in what was read from a config.json; `where` names its run in errors.

  Raises:
    ConfigError: it is of another format, or no config.
  """
  if not isinstance(known, dict) or not known:
    raise ConfigError(
      f"The config.json of {where} holds {reprlib.repr(known)}; it must hold the fields of a"
      " config."
    )
  found = known.get("format", 1)
  if found != FORMAT:
    raise ConfigError(
      f"The config.json of {where} has format {found}, this version of apo_jax reads {FORMAT}; go"
      " on with the version that began the run, or give another directory."
    )
  return {name: value for name, value in known.items() if name != "format"}


def _with_lists(value: Any) -> Any:
  if isinstance(value, dict):
    return {name: _with_lists(item) for name, item in value.items()}
  return list(value) if isinstance(value, tuple) else value
