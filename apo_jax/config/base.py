"""Configs as files write them: the base with every field, of which an experiment changes some."""

import dataclasses
import reprlib
from typing import Any

import ml_collections

from apo_jax.config.fields import ConfigError, field_hints, kind_of, write_fields
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

  Those that the version which wrote it did not know have their defaults: by these, a run does what
  it did before.

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
  return _with_new_fields({name: known[name] for name in known if name != "format"}, Config())


def _with_new_fields(known: dict[str, Any], defaults: Any) -> dict[str, Any]:
  """The fields of a section, and the defaults of those that it has not."""
  found, written = dict(known), _with_lists(write_fields(defaults))
  for name, hint in field_hints(type(defaults)).items():
    kind, default = kind_of(hint), getattr(defaults, name)
    if name not in known:
      chosen = written[name] if isinstance(written[name], list) else [written[name]]
      found |= {one: written[one] for one in (name, *(chosen if kind else ()))}
    elif kind:
      sections = [one for one in known if one in kind.known and isinstance(known[one], dict)]
      found |= {one: _with_new_fields(known[one], kind.known[one]()) for one in sections}
    elif dataclasses.is_dataclass(default) and isinstance(known[name], dict):
      found[name] = _with_new_fields(known[name], default)
  return found


def _with_lists(value: Any) -> Any:
  if isinstance(value, dict):
    return {name: _with_lists(item) for name, item in value.items()}
  return list(value) if isinstance(value, tuple) else value
