"""The runs of a sweep, each with its command, checked before any of them is started."""

import dataclasses
import functools
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags

from apo_jax.config.base import fields_of_json, to_dict
from apo_jax.config.checks import from_config_dict
from apo_jax.config.command_line import parse_with
from apo_jax.config.config_file import define_config
from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.logs import files
from apo_jax.logs.run_directory import EVALUATION, RunDirectory
from apo_jax.run.adoption import adopted_phases
from apo_jax.run.ownership import fixed_fields, identity
from apo_jax.run.phase_inputs import PhaseName, phase_keys, phase_names
from apo_jax.sweep.grid import CONFIG_FILE, Cell

SHARED, COMPILED = "shared", "compilation_cache"
LOG = "log.txt"


@dataclasses.dataclass(frozen=True)
class Planned:
  """A run of a sweep.

  Attributes:
    name: what it is called, and its directory in the sweep's.
    run_dir: that directory.
    config: what it plays.
    arguments: of `python -m apo_jax.main`.
  """

  name: str
  run_dir: Path
  config: Config
  arguments: tuple[str, ...]

  @property
  def command(self) -> str:
    """What a user types to play it."""
    return shlex.join(["python", "-m", "apo_jax.main", *self.arguments])

  @property
  def directory(self) -> RunDirectory:
    """Its run directory."""
    return RunDirectory(self.run_dir)

  @property
  def log(self) -> Path:
    """What it says."""
    return self.run_dir / LOG

  @functools.cached_property
  def recipes(self) -> dict[PhaseName, str]:
    """Its phases in order, and what each is made from: equal phases of two runs have one recipe."""
    return phase_keys(self.config)

  def left(self) -> list[PhaseName]:
    """The phases that it still has to play."""
    names = phase_names(self.config)
    done = (_is_there(self.directory, name) for name in names)
    number = next((place for place, one in enumerate(done) if not one), len(names))
    return names[number:]

  def is_finished(self) -> bool:
    """Whether nothing is left to do, its report included."""
    return not self.left() and self.directory.report.exists()

  def evaluation(self) -> Mapping[str, Any]:
    """The newest round's; empty where there is none."""
    for round in range(self.config.rounds, -1, -1):
      if _is_there(self.directory, PhaseName(round, EVALUATION)):
        return files.read_json(self.directory.round(round) / EVALUATION)
    return {}

  def taken_over(self) -> int:
    """How many of its phases other runs have played."""
    rounds = range(self.config.rounds + 1)
    return sum(len(adopted_phases(self.directory, round)) for round in rounds)


def _is_there(directory: RunDirectory, name: PhaseName) -> bool:
  return (directory.round(name.round) / name.result).exists()


def plan(
  config_file: str, overrides: Mapping[str, Any], cells: Sequence[Cell], sweep_dir: Path
) -> tuple[list[Planned], list[str]]:
  """The runs of a grid, each read and checked as its own command would.

  Args:
    config_file: what --config names, for the runs of which the grid says none.
    overrides: fields that all runs have otherwise than the file, by dotted path.
    cells: the grid.
    sweep_dir: where the runs' directories are.

  Returns:
    the runs, and sentences about those of the grid that are the same as another.

  Raises:
    ConfigError: for the first run that cannot be played, or whose directory is another run's.
  """
  planned: list[Planned] = []
  sentences = []
  known: dict[str, str] = {}
  for cell in cells:
    fields = {**overrides, **cell.overrides}
    given = [f"--config={fields.pop(CONFIG_FILE, config_file)}"]
    given += [f"--config.{k}={v}" for k, v in fields.items()]
    try:
      config = from_config_dict(read_config(given))
    except ConfigError as error:
      raise ConfigError(f"The run {cell.name}: {error}") from error
    content = json.dumps(to_dict(config), sort_keys=True)
    if content in known:
      sentences.append(
        f"{cell.name} is the same run as {known[content]}, which is played once: it does not read"
        " the fields in which they differ."
      )
      continue
    known[content] = cell.name
    run_dir = sweep_dir / cell.name
    _check_directory(run_dir, config)
    places = {"run_dir": run_dir, "share": sweep_dir / SHARED}
    places["compilation_cache"] = sweep_dir / COMPILED
    arguments = [*given, *(f"--{name}={place}" for name, place in places.items())]
    planned.append(Planned(cell.name, run_dir, config, tuple(arguments)))
  return planned, sentences


def read_config(arguments: Sequence[str]) -> ml_collections.ConfigDict:
  """The config that command-line arguments describe, by the parser of `apo_jax.main`.

  Raises:
    ConfigError: they cannot be parsed.
  """
  values, command = flags.FlagValues(), ["apo_jax.main", *arguments]
  define_config("", flag_values=values, sys_argv=command)
  parse_with(values, command)
  return values["config"].value


def default_directory(config_file: str, base: ml_collections.ConfigDict) -> Path:
  """Where a sweep is kept: a grid that grows keeps its place, as it is of the same base."""
  fields = json.loads(base.to_json_best_effort())
  digest = hashlib.sha256(json.dumps(fixed_fields(fields), sort_keys=True).encode()).hexdigest()[:8]
  return Path("runs/sweeps") / f"{Path(config_file.split(':')[0]).stem}-{digest}"


def _check_directory(run_dir: Path, config: Config) -> None:
  """Checks that a run's directory is new or its own; the run itself looks closer."""
  place = RunDirectory(run_dir).config
  if not place.exists():
    return
  try:
    known = from_config_dict(
      ml_collections.ConfigDict(fields_of_json(files.read_json(place), f"the run in {run_dir}"))
    )
  except (OSError, ValueError) as error:
    raise ConfigError(f"{run_dir} cannot be gone on with: {error}") from error
  if identity(known) != identity(config):
    raise ConfigError(
      f"{run_dir} is the directory of a run that was started with another config; give another"
      " --sweep_dir, or the old flags to go on."
    )
