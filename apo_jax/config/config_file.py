"""The flag --config: a Python file whose get_config() returns the experiment.

ml_collections reads the fields that other flags override. The file itself is run here, because what
is wrong with it is to be one sentence with the file, the line and the error, whatever it raises.
"""

import importlib.machinery
import importlib.util
import os
import sys
import traceback
from types import ModuleType
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from apo_jax.config.fields import ConfigError

NAME = "config"

flags.disclaim_key_flags()  # the flag is shown as that of the command that defines it


def define_config(help: str, **how: Any) -> flags.FlagHolder[ml_collections.ConfigDict]:
  """Defines the flag --config, any of whose fields can be set by a flag.

  Args:
    help: what is said of it.
    how: further arguments of `config_flags.DEFINE_config_file`.
  """
  try:
    holder = config_flags.DEFINE_config_file(NAME, None, help, **how)
  except flags.Error:  # a --flagfile that cannot be read, as parsing will say too
    holder = config_flags.DEFINE_config_file(NAME, None, help, **{**how, "sys_argv": [""]})
  how.get("flag_values", flags.FLAGS)[NAME].parser = _Parser()
  return holder


class _Parser(flags.ArgumentParser):
  """From what --config says to the config."""

  def flag_type(self) -> str:
    """What --help calls it."""
    return "config object"

  def parse(self, path: str) -> ml_collections.ConfigDict:
    """The locked config.

    Raises:
      ConfigError: there is no such file, it fails, or it gives no config.
    """
    # What follows a colon is passed to get_config.
    file, colon, argument = path.partition(":")
    if not os.path.isfile(file):
      raise ConfigError(f"--config is {path!r}, and there is no such file.")
    try:
      get_config = getattr(_run(file), "get_config", None)
      if get_config is None:
        raise ConfigError(
          f"--config is {path!r}, which has no function get_config(); it must be the file of an"
          " experiment, such as configs/demo.py."
        )
      config = get_config(argument) if colon else get_config()
    except ConfigError:
      raise
    except (Exception, SystemExit) as error:
      raise ConfigError(f"--config is {path!r}, which {_failure(file, error)}.") from error
    if not isinstance(config, ml_collections.ConfigDict):
      raise ConfigError(
        f"--config is {path!r}, whose get_config() returns {_kind(config)}; it must be a ConfigDict"
        " of fields, such as base_config() of apo_jax.config.base returns."
      )
    config.lock()
    return config


def _run(file: str) -> ModuleType:
  """The module of a file, which may end in anything."""
  name = f"{NAME}_file"
  loader = importlib.machinery.SourceFileLoader(name, file)
  module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
  sys.modules[name] = module  # dataclasses look for their module there
  loader.exec_module(module)
  return module


def _failure(file: str, error: BaseException) -> str:
  """Where and how a config file fails, as the rest of a sentence."""
  if isinstance(error, OSError) and error.filename == file:
    return f"cannot be read: {error.strerror}"
  said = " ".join(str(getattr(error, "msg", None) or error).split())
  said = f"{type(error).__name__}: {said}" if said else type(error).__name__
  if isinstance(error, SyntaxError):
    lines, named = [error.lineno], error.filename
  else:
    lines, named = _lines(file, error), file
  other = f" of {named}" if named not in (None, file) else ""
  where = f" in line {lines[-1]}{other}" if lines and lines[-1] else ""
  return f"fails{where}: {said.rstrip('.')}"


def _lines(file: str, error: BaseException) -> list[int]:
  """The lines of the file that an error came through, the innermost last."""
  frames = traceback.extract_tb(error.__traceback__)
  return [frame.lineno for frame in frames if frame.filename == file and frame.lineno]


def _kind(value: Any) -> str:
  return "nothing" if value is None else f"{type(value).__name__}"
