"""Whose a run directory is: that of one config, one set of weights and one set of data."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from apo_jax.config.base import fields_of_json, to_dict, to_json
from apo_jax.config.fields import ConfigError
from apo_jax.config.folders import check_folder
from apo_jax.config.schema import Config
from apo_jax.data.records import GameData
from apo_jax.data.sources import fingerprint
from apo_jax.data.token_listing import list_tokens
from apo_jax.data.tokenised import TokenisedData
from apo_jax.data.tokens import Codec
from apo_jax.devices.processes import barrier
from apo_jax.logs import files
from apo_jax.logs.places import Place, find_place, is_bucket
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.data_description import describe_data, examples
from apo_jax.run.origins import Origins
from apo_jax.run.tokenizer import write_tokenizer_hashes

_MOST_SHOWN = 200  # characters of a value in a message
# What may differ when a run goes on: where it runs, what it says, and how long it plays.
_MAY_CHANGE = ("rounds", "health", "mesh", "memory", "checkpoints", "logging")


def identity(config: Config) -> str:
  """A short hash of all that makes a run what it is; what may change in between is left out."""
  fixed = fixed_fields(to_dict(config))
  return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:8]


def fixed_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Those of a whole config's fields that make a run what it is."""
  return {name: value for name, value in fields.items() if name not in _MAY_CHANGE}


def makes_a_run(field: str) -> bool:
  """Whether a field of a config, by its dotted path, makes a run what it is."""
  return field.split(".")[0] not in _MAY_CHANGE


def default_run_dir(config_file: str, config: Config) -> Path:
  """Where a run is kept that names no place: its config file's name and its `identity`."""
  return Path(f"runs/{Path(config_file).stem}-{identity(config)}")


def check_directory(directory: RunDirectory, config: Config) -> None:
  """Checks that the directory is new, or was started with this config.

  It is read alone, and where it is missing not made. Called before weights and data are read, which
  may take long.

  Raises:
    ConfigError: it belongs to another run, has lost files, or cannot be a directory that is
      written.
  """
  _check_directory(directory)
  try:
    is_known = _is_there(directory, directory.config)
    known = files.read_json(directory.config) if is_known else None
    _data_hash(directory)
    known_weights = _known_weights(directory)
  except (OSError, ValueError) as error:
    raise _unusable(directory, error) from error
  if is_known:
    fields = fields_of_json(known, f"the run in {directory}")
    for field, old, new in differences(fields, to_dict(config), "config"):
      # A checkpoint may move: `check_weights` finds whether its weights are the same.
      moved = old and new and field in known_weights
      if makes_a_run(field.removeprefix("config.")) and not moved:
        raise ConfigError(
          f"{field} is {_shown(new)}, but the run in {directory} was started with {_shown(old)};"
          " give another --run_dir, or the old value to continue that run."
        )


def check_data(directory: RunDirectory, data: GameData) -> None:
  """Checks that the data is what it was when the run was started.

  Raises:
    ConfigError: it is not.
  """
  try:
    known = _data_hash(directory)
  except (OSError, ValueError) as error:
    raise _unusable(directory, error) from error
  if known is not None and known != fingerprint(data):
    raise ConfigError(
      f"The data has changed since the run in {directory} was started, whose {directory.data.name} "
      "has its hash; give another --run_dir, or the old data to continue that run."
    )


def make_directory(directory: RunDirectory) -> None:
  """Makes the run directory, where it is not there.

  Raises:
    ConfigError: it cannot be made.
  """
  try:
    if not is_bucket(directory.path):  # which has no directories
      directory.path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise _unusable(directory, error) from error


def check_weights(directory: RunDirectory, origins: Origins, flag: str = "--run_dir") -> None:
  """Checks that the checkpoints hold what they held when the run was started.

  `flag` named the directory, for errors.

  Raises:
    ConfigError: they do not.
  """
  try:
    known = _known_weights(directory)
  except (OSError, ValueError) as error:
    raise _unusable(directory, error, flag) from error
  for field, old in known.items():
    if origins.fingerprints.get(field, old) != old:
      raise ConfigError(
        f"The weights of {field} have changed since the run in {directory} was started; give the"
        " old weights, or start another run."
      )


def claim(
  directory: RunDirectory,
  config: Config,
  origins: Origins,
  data: GameData,
  tokenised: TokenisedData,
  codec: Codec,
) -> None:
  """Makes the directory this run's; called when all is known to fit, the tokenizer shared.

  Raises:
    ConfigError: this process has read other data than the first one.
  """
  if jax.process_index() == 0:
    # The config first: whoever finds the rest knows whose it is.
    files.write_json(directory.config, to_json(config))
    files.write_json(directory.origins, origins.fingerprints)
    # Again at every start, as it may have been damaged; `check_data` has found it to be of this
    # data.
    files.write_text(directory.preview, list_tokens(codec, examples(tokenised)))
    files.write_json(directory.data, describe_data(data, tokenised))
    if not directory.tokenizer_finished.exists():
      write_tokenizer_hashes(directory)
  barrier("claim")
  if jax.process_index() == 0:
    return  # what it has read is what it wrote
  if files.read_json(directory.data)["sha256"] != fingerprint(data):
    raise ConfigError(
      f"Process {jax.process_index()} has read other data than process 0; give all processes the"
      " same files."
    )


def _unusable(directory: RunDirectory, error: Exception, flag: str = "--run_dir") -> ConfigError:
  said = str(error).rstrip(".")
  return ConfigError(f"{flag} is {str(directory)!r}, which cannot be used: {said}.")


def _check_directory(directory: RunDirectory) -> None:
  """Checks that a run can be kept there; whether a bucket may be written is known when the lock is.

  Raises:
    ConfigError: it can be no directory that is written.
  """
  if not is_bucket(directory.path):
    check_folder("--run_dir", find_place(directory.path, "--run_dir"))
  elif directory.path.is_file():
    raise _unusable(directory, NotADirectoryError(f"{str(directory)!r} is no directory"))


def _is_there(directory: RunDirectory, path: Place) -> bool:
  """Whether a run has written a file that says whose the directory is.

  Raises:
    ValueError: it has not, though phases of it were played: whose they are is no longer known.
  """
  if path.exists() if is_bucket(path) else os.path.lexists(path):
    return True
  for played in (directory.rounds, directory.path / "checkpoints"):
    if played.exists():
      raise ValueError(
        f"{path.name} is gone, though a run has left {played.name} there; bring the file back, or"
        " give another --run_dir"
      )
  return False


def _data_hash(directory: RunDirectory) -> str | None:
  """The hash of a run's data; None where it has not begun.

  Raises:
    OSError, ValueError: its file is gone or damaged.
  """
  if not _is_there(directory, directory.data):
    return None
  known = files.read_json_object(directory.data)
  if not isinstance(known.get("sha256"), str):
    raise ValueError(f"{directory.data} has no hash of the data under sha256")
  return known["sha256"]


def _known_weights(directory: RunDirectory) -> dict[str, str]:
  """The hashes of the checkpoints that a run started from, by the fields that name these.

  Raises:
    OSError, ValueError: their file is gone or damaged.
  """
  there = _is_there(directory, directory.origins)
  return files.read_json_object(directory.origins) if there else {}


def differences(old: Any, new: Any, field: str) -> list[tuple[str, Any, Any]]:
  """The fields in which two configs in JSON's types differ: dotted path, old value, new value.

  None stands for a field that one of them has not.
  """
  if isinstance(old, dict) and isinstance(new, dict):
    names = sorted(old.keys() | new.keys())
    return [
      found
      for name in names
      for found in differences(old.get(name), new.get(name), f"{field}.{name}")
    ]
  return [] if old == new else [(field, old, new)]


def _shown(value: Any) -> str:
  """A value for a message; a whole group of fields is cut."""
  text = repr(value)
  return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]} …"
