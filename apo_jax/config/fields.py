"""From an ml_collections ConfigDict to nested frozen dataclasses, checked field by field.

A field's annotation is the one place that says what it may hold: its type, a `Literal` of its
choices, an `Annotated` type with a `Range`, a dataclass of fields, or a kind of `Choice`, which is
named in the field and set in a section beside it. `read_fields` checks all of them and fails with
one sentence that names the field by its dotted path, its value, and what is allowed;
`write_fields` goes the other way.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import ml_collections

from apo_jax.config.visible import visible
from apo_jax.objectives.choice import Choice
from apo_jax.objectives.ranges import Range


class ConfigError(ValueError):
  """A config that cannot be run; its message is one sentence that names the field.

  Names and values in it may be a stranger's: they are shown as `visible` shows them. Further
  arguments are lines below the sentence.
  """

  def __str__(self) -> str:
    return "\n".join(visible(str(one)) for one in self.args)


# What devices compute with: beyond it a number would silently become 0 or infinite.
_OF_FLOAT32 = Range(
  "0 or of a size between 1.2e-38 and 3.4e38, as float32 has",
  lambda value: value == 0 or 1.2e-38 < abs(value) < 3.4e38,
)
_TYPE_WORDS = {int: "an int", float: "a float", bool: "True or False", str: "a string"}


def read_fields(dataclass: type, config: Any, path: str) -> Any:
  """Builds `dataclass` from the ConfigDict found at the dotted `path`.

  Raises:
    ConfigError: for a field that is unknown, missing, of a wrong type, or out of its range.
  """
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(f"{path} is {config!r}; it must be a ConfigDict of fields.")
  hints = field_hints(dataclass)
  kinds = {name: kind_of(hint) for name, hint in hints.items() if kind_of(hint)}
  sections = {name: choice for kind in kinds.values() for name, choice in kind.known.items()}
  for name in config:
    if name not in hints and name not in sections:
      raise ConfigError(_unknown_field(name, config[name], [*hints, *sections], path))
  choices = {
    name: read_fields(choice, config[name], f"{path}.{name}")
    for name, choice in sections.items()
    if name in config
  }
  values = {}
  for name, hint in hints.items():
    section = optional_section(hint)
    if section:
      given = config.get(name)
      values[name] = None if given is None else read_fields(section, given, f"{path}.{name}")
      continue
    if name not in config:
      raise ConfigError(f"{path}.{name} is missing; it must be {allowed(hint)}.")
    value = read_value(hint, config[name], f"{path}.{name}")
    values[name] = _choose(name, value, choices, path) if name in kinds else value
  return dataclass(**values)


def write_fields(value: Any, *, all_choices: bool = False) -> dict[str, Any]:
  """The nested dictionary from which `read_fields` builds `value`, a dataclass, again.

  It holds the sections of what is chosen; with `all_choices` those of every choice, with defaults.
  """
  written: dict[str, Any] = {}
  for name, hint in field_hints(type(value)).items():
    field, kind = getattr(value, name), kind_of(hint)
    if kind is None:
      is_section = dataclasses.is_dataclass(field)
      written[name] = write_fields(field, all_choices=all_choices) if is_section else field
      continue
    chosen = field if isinstance(field, tuple) else (field,)
    written[name] = tuple(one.name for one in chosen) if isinstance(field, tuple) else field.name
    sections = {one.name: one for one in chosen}
    if all_choices:
      sections = {other: choice() for other, choice in kind.known.items()} | sections
    for other, section in sections.items():
      if other in written or other in field_hints(type(value)):
        raise ValueError(f"{type(value).__name__} has two fields named {other}.")
      written[other] = write_fields(section)
  return written


def field_hints(dataclass: type) -> dict[str, Any]:
  """The annotations of a dataclass's fields."""
  hints = typing.get_type_hints(dataclass, include_extras=True)
  return {field.name: hints[field.name] for field in dataclasses.fields(dataclass)}


def hint_of(dataclass: type, path: str, value: str) -> Any:
  """The annotation of the field at a dotted path, of which the first name is the config itself.

  Raises:
    ConfigError: there is no such field; `value` is what it was to be.
  """
  root, *names = path.split(".")
  section, hint, place = dataclass, None, root
  for name in names:
    if section is None:
      raise ConfigError(
        f"{path} is {value!r}, but {place} is no group of fields; it must be {allowed(hint)}."
      )
    hints = field_hints(section)
    kinds = filter(None, map(kind_of, hints.values()))
    choices = {name: choice for kind in kinds for name, choice in kind.known.items()}
    if name not in hints and name not in choices:
      raise ConfigError(_unknown_field(name, value, [*hints, *choices], place))
    hint, place = hints.get(name, choices.get(name)), f"{place}.{name}"
    is_section = dataclasses.is_dataclass(hint) and not (name in hints and kind_of(hint))
    section = hint if is_section else optional_section(hint)
  return hint


def kind_of(hint: Any) -> type[Choice] | None:
  """The kind of choice that a field of this annotation names, once or in a tuple; else None."""
  if typing.get_origin(hint) is tuple:
    hint = typing.get_args(hint)[0]
  return hint if isinstance(hint, type) and issubclass(hint, Choice) else None


def _choose(field: str, named: str | tuple[str, ...], choices: dict[str, Any], path: str) -> Any:
  """What a field names, once or in a tuple, of the choices whose sections have been read."""
  names = (named,) if isinstance(named, str) else named
  if len(set(names)) < len(names):
    raise ConfigError(f"{path}.{field} is {named}; name each only once.")
  for name in names:
    if name not in choices:
      raise ConfigError(f"{path}.{name} is missing; it must be the fields of what is chosen.")
  return choices[named] if isinstance(named, str) else tuple(choices[name] for name in names)


def optional_section(hint: Any) -> type | None:
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


def read_value(hint: Any, value: Any, path: str) -> Any:
  """Returns `value` as the annotation `hint` wants it.

  Raises:
    ConfigError: it is of a wrong type or out of its range; `path` names it.
  """
  if dataclasses.is_dataclass(hint) and not kind_of(hint):
    return read_fields(hint, value, path)
  if typing.get_origin(hint) is tuple and isinstance(value, tuple | list):
    item_hint = typing.get_args(hint)[0]
    return tuple(read_value(item_hint, item, f"{path}[{i}]") for i, item in enumerate(value))
  # A whole number is a fine float, but True is not a fine 1.
  if _base_type(hint) is float and type(value) is int:
    value = float(value)
  if not _fits(hint, value):
    raise ConfigError(f"{path} is {value!r}; it must be {allowed(hint)}.")
  for limit in (*_bounds(hint)[1:], *([_OF_FLOAT32] if isinstance(value, float) else [])):
    if not limit.contains(value):
      raise ConfigError(f"{path} is {value!r}; it must be {limit.words}.")
  return value


def _base_type(hint: Any) -> Any:
  return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _fits(hint: Any, value: Any) -> bool:
  if kind_of(hint):
    return isinstance(value, str) and value in kind_of(hint).known
  if typing.get_origin(hint) is Literal:
    return isinstance(value, str) and value in typing.get_args(hint)
  if type(value) is not _base_type(hint):
    return False
  if isinstance(value, float) and not math.isfinite(value):
    return False
  return all(bound.contains(value) for bound in _bounds(hint)[:1])


def _bounds(hint: Any) -> tuple[Range, ...]:
  """The range that an annotation gives; behind it limits that are said where they are passed."""
  return getattr(hint, "__metadata__", ())


def allowed(hint: Any) -> str:
  """What the annotation allows, in words that complete "it must be ..."."""
  arguments = typing.get_args(hint)
  if typing.get_origin(hint) is Literal:
    return _one_of(arguments)
  if kind_of(hint) and typing.get_origin(hint) is not tuple and hint not in hint.known.values():
    return _one_of(sorted(hint.known))
  if dataclasses.is_dataclass(hint) or optional_section(hint):
    return "a ConfigDict of fields"
  if typing.get_origin(hint) is tuple:
    return f"a tuple, each item {allowed(arguments[0])}"
  words = _TYPE_WORDS[_base_type(hint)]
  return " ".join([words, *(bound.words for bound in _bounds(hint)[:1])])


def _one_of(choices: Sequence[str]) -> str:
  if not choices:
    return "left out, as none is known"
  *others, last = [repr(choice) for choice in choices]
  return f"{', '.join(others)} or {last}" if others else last
