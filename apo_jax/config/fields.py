"""From an ml_collections ConfigDict to nested frozen dataclasses, checked field by field.

A field's annotation is the one place that says what it may hold: its type, a `Literal` of its
choices, or an `Annotated` type with a `Range`. `read_fields` checks all of them and fails with one
sentence that names the field by its dotted path, its value, and what is allowed.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

import ml_collections


class ConfigError(ValueError):
  """A config that cannot be run; its message is one sentence that names the field."""


@dataclasses.dataclass(frozen=True)
class Range:
  """The values a number may take: `words` completes "must be ...", `contains` decides."""

  words: str
  contains: Callable[[Any], bool]


PositiveInt = Annotated[int, Range("at least 1", lambda value: value >= 1)]
NonNegativeInt = Annotated[int, Range("at least 0", lambda value: value >= 0)]
AtLeastTwo = Annotated[int, Range("at least 2", lambda value: value >= 2)]
PositiveFloat = Annotated[float, Range("above 0", lambda value: value > 0)]
NonNegativeFloat = Annotated[float, Range("at least 0", lambda value: value >= 0)]
NonEmptyText = Annotated[str, Range("a text that is not empty", lambda value: value != "")]
Probability = Annotated[float, Range("above 0 and at most 1", lambda value: 0 < value <= 1)]
Decay = Annotated[float, Range("at least 0 and below 1", lambda value: 0 <= value < 1)]
MeshAxis = Annotated[
  int, Range("at least 1, or -1 to fill", lambda value: value == -1 or value >= 1)
]

_TYPE_WORDS = {int: "an int", float: "a float", bool: "True or False", str: "a string"}


def read_fields(dataclass: type, config: Any, path: str) -> Any:
  """Builds `dataclass` from the ConfigDict found at the dotted `path`.

  Raises:
    ConfigError: for a field that is unknown, missing, of a wrong type, or out of its range.
  """
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(f"{path} is {config!r}; it must be a ConfigDict of fields.")
  hints = typing.get_type_hints(dataclass, include_extras=True)
  for name in config:
    if name not in hints:
      raise ConfigError(_unknown_field(name, config[name], list(hints), path))
  values = {}
  for name, hint in hints.items():
    section = _optional_section(hint)
    if section:
      given = config.get(name)
      values[name] = None if given is None else read_fields(section, given, f"{path}.{name}")
      continue
    if name not in config:
      raise ConfigError(f"{path}.{name} is missing; it must be {_allowed(hint)}.")
    values[name] = _read_value(hint, config[name], f"{path}.{name}")
  return dataclass(**values)


def _optional_section(hint: Any) -> type | None:
  """The dataclass of a hint `Section | None`: a section that may be left out."""
  arguments = typing.get_args(hint)
  if isinstance(hint, types.UnionType) and arguments[1:] == (types.NoneType,):
    return arguments[0]
  return None


def _unknown_field(name: str, value: Any, known: list[str], path: str) -> str:
  nearest = difflib.get_close_matches(name, known, n=1)
  hint = f"did you mean {path}.{nearest[0]}?" if nearest else f"known are {', '.join(known)}."
  shown = "a group of fields" if isinstance(value, ml_collections.ConfigDict) else repr(value)
  return f"{path}.{name} is {shown}, but there is no such field; {hint}"


def _read_value(hint: Any, value: Any, path: str) -> Any:
  """Returns `value` as the annotation `hint` wants it, or raises ConfigError."""
  if dataclasses.is_dataclass(hint):
    return read_fields(hint, value, path)
  if typing.get_origin(hint) is tuple and isinstance(value, tuple | list):
    item_hint = typing.get_args(hint)[0]
    return tuple(_read_value(item_hint, item, f"{path}[{i}]") for i, item in enumerate(value))
  # A whole number is a fine float, but True is not a fine 1.
  if _base_type(hint) is float and type(value) is int:
    value = float(value)
  if not _fits(hint, value):
    raise ConfigError(f"{path} is {value!r}; it must be {_allowed(hint)}.")
  return value


def _base_type(hint: Any) -> Any:
  return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _fits(hint: Any, value: Any) -> bool:
  if typing.get_origin(hint) is Literal:
    return isinstance(value, str) and value in typing.get_args(hint)
  if type(value) is not _base_type(hint):
    return False
  if isinstance(value, float) and not math.isfinite(value):
    return False
  return all(bound.contains(value) for bound in getattr(hint, "__metadata__", ()))


def _allowed(hint: Any) -> str:
  """What the annotation allows, in words that complete "it must be ..."."""
  if dataclasses.is_dataclass(hint):
    return "a ConfigDict of fields"
  arguments = typing.get_args(hint)
  if typing.get_origin(hint) is Literal:
    *others, last = [repr(choice) for choice in arguments]
    return f"{', '.join(others)} or {last}"
  if typing.get_origin(hint) is tuple:
    return f"a tuple, each item {_allowed(arguments[0])}"
  words = _TYPE_WORDS[_base_type(hint)]
  return " ".join([words, *(bound.words for bound in getattr(hint, "__metadata__", ()))])
