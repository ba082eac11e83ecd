"""The grid of a sweep: what `--set` and `--seeds` say, as one list of overrides a run."""

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from apo_jax.config.fields import ConfigError

_OPENING, _CLOSING = "([{", ")]}"
# What a name of a directory may hold beside letters and digits.
_AWKWARD = re.compile(r"[^\w.,=+-]+")
_LONGEST_NAME = 200
MOST_RUNS = 10_000
CONFIG_FILE = "config"  # in the place of a field: the run's own --config


class Cell(NamedTuple):
  """One run of the grid.

  Attributes:
    overrides: the fields in which it differs, by dotted path, with values as a user types them;
      under `CONFIG_FILE` the file that it starts from.
  """

  overrides: dict[str, str]

  @property
  def name(self) -> str:
    """What it is called, and its directory: "policy.loss=dpo,seed=3"."""
    pairs = (
      f"{field}={_stem(value) if field == CONFIG_FILE else value}"
      for field, value in self.overrides.items()
    )
    return _AWKWARD.sub("_", ",".join(pairs)).strip("_") or "run"


def make_grid(sets: Sequence[str], seeds: str | None) -> list[Cell]:
  """All runs of a grid; seeds vary fastest.

  Args:
    sets: as --set has them: "FIELD=VALUE,VALUE", or of fields that vary together
      "FIELD,FIELD=VALUE:VALUE,VALUE:VALUE".
    seeds: as --seeds has them: a number of seeds, or the seeds with commas between; None leaves the
      config's own.

  Raises:
    ConfigError: one of them cannot be read, or names a field or a value twice.
  """
  axes = [_axis(one) for one in sets]
  if seeds is not None:
    axes.append([{"seed": seed} for seed in _seeds(seeds)])
  fields = [field for axis in axes for field in axis[0]]
  for field in fields:
    if fields.count(field) > 1:
      flags = "--seeds and --set" if field == "seed" and seeds is not None else "--set"
      raise ConfigError(f"{flags} name {field} more than once; give all its values in one place.")
  number = math.prod(map(len, axes))
  if number > MOST_RUNS:
    raise ConfigError(
      f"--set and --seeds ask for {number:,} runs; a sweep has at most {MOST_RUNS:,}: give fewer"
      " values, or several sweeps."
    )
  cells = [
    Cell({field: value for part in parts for field, value in part.items()})
    for parts in itertools.product(*axes)
  ]
  names = [cell.name for cell in cells]
  for name in names:
    if len(name) > _LONGEST_NAME:
      raise ConfigError(
        f"A run would be called {name!r}, {len(name)} characters, of which a directory's name may"
        f" have {_LONGEST_NAME}; set fewer fields, or put values into config files."
      )
    if names.count(name) > 1:
      raise ConfigError(
        f"Two runs would be called {name!r}, as characters that no directory should have become"
        " '_'; give values that differ in others."
      )
  return cells


def _stem(config_file: str) -> str:
  """A config file's name, with what is passed to its get_config."""
  file, *passed = config_file.split(":")
  return ":".join([Path(file).stem, *passed])


def _axis(text: str) -> list[dict[str, str]]:
  """What one --set says: the overrides of each of its values."""
  named, equals, given = text.partition("=")
  fields = [field.strip() for field in named.split(",")]
  if not equals or not all(fields):
    raise ConfigError(
      f"--set is {text!r}; it must be FIELD=VALUE,VALUE, such as policy.loss=rjs,rrhf,dpo."
    )
  for field in fields:
    if field.startswith("config."):
      raise ConfigError(
        f"--set is {text!r}; fields are named without 'config.', such as"
        f" {field.removeprefix('config.')}."
      )
  axis = []
  for value in split_outside(given, ","):
    values = split_outside(value, ":") if len(fields) > 1 else [value]
    if len(values) != len(fields):
      raise ConfigError(
        f"--set is {text!r}; {value!r} must be {len(fields)} values with ':' between them, one for"
        f" each of {', '.join(fields)}."
      )
    axis.append(dict(zip(fields, map(_unquoted, values), strict=True)))
  for one in axis:
    if axis.count(one) > 1:
      raise ConfigError(f"--set is {text!r}, which has {':'.join(one.values())!r} twice.")
  return axis


def split_outside(text: str, separator: str) -> list[str]:
  """Splits where the separator stands outside brackets and quotes."""
  parts, depth, quote = [""], 0, ""
  for character in text:
    if quote:
      quote = "" if character == quote else quote
    elif character in "'\"":
      quote = character
    elif character in _OPENING:
      depth += 1
    elif character in _CLOSING:
      depth -= 1
    elif character == separator and not depth:
      parts.append("")
      continue
    parts[-1] += character
  return [part.strip() for part in parts]


def _unquoted(value: str) -> str:
  """A value that is quoted as a whole without its quotes."""
  quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
  return value[1:-1] if quoted else value


def _seeds(text: str) -> list[str]:
  if text.isdecimal() and int(text) > MOST_RUNS:
    raise ConfigError(f"--seeds is {text!r}; it must be at most {MOST_RUNS:,}.")
  parts = [part.strip() for part in text.split(",")]
  if len(parts) == 2 and not parts[1]:
    parts.pop()  # "7," is the one seed 7
    listed = parts
  elif len(parts) == 1 and parts[0].isdecimal():
    listed = [str(seed) for seed in range(int(parts[0]))]
  else:
    listed = parts
  numbers = [str(int(part)) for part in listed if part.isdecimal()]
  if not numbers or len(numbers) < len(listed) or len(set(numbers)) < len(numbers):
    raise ConfigError(
      f"--seeds is {text!r}; it must be a number of seeds of at least 1, such as 5 for 0 to 4, or"
      " different seeds with commas between, such as 3,7."
    )
  return numbers
