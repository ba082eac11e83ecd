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
from apo_jax.config.schema import Config
from apo_jax.data.records import GameData
from apo_jax.data.sources import fingerprint
from apo_jax.data.token_listing import list_tokens
from apo_jax.data.tokenised import TokenisedData
from apo_jax.data.tokens import Codec
from apo_jax.devices.processes import barrier
from apo_jax.logs import files
from apo_jax.logs.places import Place, is_bucket
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.data_description import describe_data, examples
from apo_jax.run.origins import Origins
from apo_jax.run.tokenizer import write_tokenizer_hashes

# What may differ when a run goes on: where it runs, what it says, and how long it plays.
_MAY_CHANGE = ("rounds", "health", "mesh", "memory", "checkpoints", "logging")


def identity(config: Config) -> str:
  """A short hash of all that makes a run what it is; what may change in between is left out."""
  fixed = fixed_fields(to_dict(config))
  return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:8]


def fixed_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Those of a whole config's fields that make a run what it is."""
  return {name: value for name, value in fields.items() if name not in _MAY_CHANGE}


def default_run_dir(config_file: str, config: Config) -> Path:
  """Where a run is kept that names no place: its config file's name and its `identity`."""
  return Path(f"runs/{Path(config_file).stem}-{identity(config)}")


def check_owner(directory: RunDirectory, config: Config, origins: Origins, data: GameData) -> None:
  """Checks that the directory is new, or was started with this config, weights and data.

  It is read alone, and where it is missing not made.

  Raises:
    ConfigError: it belongs to another run, or cannot be a directory that is written.
  """
  try:
    _check_can_be_written(directory.path)
    known = _read_if_there(directory.config)
    known_data = _read_if_there(directory.data)
    known_weights = _known_weights(directory)
  except (OSError, ValueError) as error:
    raise _unusable(directory, error) from error
  check_weights(directory, origins)
  if known is not None:
    fields = fields_of_json(known, f"the run in {directory}")
    for field, old, new in _differences(fields, to_dict(config), "config"):
      # A checkpoint may move: its weights were found to be the same.
      moved = old and new and field in known_weights
      if field.split(".")[1] not in _MAY_CHANGE and not moved:
        raise ConfigError(
          f"{field} is {new!r}, but the run in {directory} was started with {old!r}; give another "
          "--run_dir, or the old value to continue that run."
        )
  if known_data is not None and known_data["sha256"] != fingerprint(data):
    raise ConfigError(
      f"The data has changed since the run in {directory} was started; give another --run_dir, or "
      "the old data to continue that run."
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


def check_weights(directory: RunDirectory, origins: Origins) -> None:
  """Checks that the checkpoints hold what they held when the run was started.

  Raises:
    ConfigError: they do not.
  """
  for field, old in _known_weights(directory).items():
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
    if not directory.data.exists():  # else `check_owner` has found it to be of this data
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


def _check_can_be_written(path: Place) -> None:
  """Raises OSError unless `path`, or what it would be made in, is a directory that is written.

  Whether a bucket may be written is known when the lock is.
  """
  if is_bucket(path):
    if path.is_file():
      raise NotADirectoryError(f"{str(path)!r} is no directory")
    return
  there = next(one for one in (path, *path.parents) if one.exists())
  if not there.is_dir():
    raise NotADirectoryError(f"{str(there)!r} is no directory")
  if not os.access(there, os.W_OK | os.X_OK):
    raise PermissionError(f"{str(there)!r} cannot be written")


def _unusable(directory: RunDirectory, error: Exception) -> ConfigError:
  return ConfigError(f"--run_dir is {str(directory)!r}, which cannot be used: {error}.")


def _known_weights(directory: RunDirectory) -> dict[str, str]:
  return _read_if_there(directory.origins) or {}


def _read_if_there(path: Place) -> Any:
  return files.read_json(path) if path.exists() else None


def _differences(old: Any, new: Any, field: str) -> list[tuple[str, Any, Any]]:
  if isinstance(old, dict) and isinstance(new, dict):
    names = sorted(old.keys() | new.keys())
    return [
      found
      for name in names
      for found in _differences(old.get(name), new.get(name), f"{field}.{name}")
    ]
  return [] if old == new else [(field, old, new)]
