"""A new run from a finished round of another, with changed fields."""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator

import jax

from apo_jax.branch.changes import changed_fields
from apo_jax.branch.copying import copy_rounds, size_of_copy
from apo_jax.branch.replayed import check_replayed
from apo_jax.config.base import to_json
from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.logs.files import write_json
from apo_jax.logs.places import absolute, find_path
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.logs.storage import check_room
from apo_jax.run import branched
from apo_jax.run.branched import Branch, read_branch
from apo_jax.run.models import make_models
from apo_jax.run.opening import last_finished, mesh_for, read_run_config
from apo_jax.run.origins import find_origins
from apo_jax.run.ownership import check_weights
from apo_jax.run.parameters import load_last
from apo_jax.run.phase_inputs import inputs_of, phase_names
from apo_jax.run.players import Player
from apo_jax.run.records import find_damage, finished_phases
from apo_jax.run.sharing import PACKAGE, code_sha256
from apo_jax.run.tokenizer import load_own_tokenizer
from apo_jax.training.checkpoints import DamagedCheckpoint


def branch(source: RunDirectory, config: Config, round: int, target: RunDirectory) -> Branch:
  """Makes the directory of a new run, which has rounds 0 to `round` of another.

  The other run may be under way: finished rounds are read alone. The new directory appears whole,
  or not at all.

  Args:
    source: the other run.
    config: of the new run, checked by itself.
    round: the last round that is taken over.
    target: the new run's; it must not be there, or be empty.

  Returns:
    What the new run's branch.json says.

  Raises:
    ConfigError: the other run has no such round, or not whole; a field differs that may not; or
      the directory cannot be made.
  """
  known = read_run_config(source)
  _check_round(source, known, round)
  changed = changed_fields(known, config)
  _check_phases(known, config, round)
  check_replayed(source, config, round)
  _check_target(target)
  players = _players_to_take(source, known, config, round)
  branch = Branch(
    str(absolute(source.path)), round, changed, code_sha256(), _commit(), read_branch(source)
  )
  with _new_directory(source, target) as made:
    check_room(made.path, size_of_copy(source, players, round), f"the copy of {source}")
    copy_rounds(source, made, players, round)
    _check_copy(source, made, config, players, round)
    write_json(made.branch, branched.to_json(branch))
    write_json(made.config, to_json(config))  # last, as it says that this is a run
  return branch


def _check_round(source: RunDirectory, known: Config, round: int) -> None:
  """Checks that the rounds are finished, and what they left is what they wrote."""
  last = last_finished(source)
  if not 0 <= round <= last:
    finished = f"those of 0 to {last}" if last >= 0 else "none"
    raise ConfigError(
      f"--from is {round}, which is no finished round of {source}; finished are {finished}."
    )
  listed = phase_names(dataclasses.replace(known, rounds=round))
  finished = finished_phases(source, listed)
  if len(finished) < len(listed):
    missing = listed[len(finished)]
    raise ConfigError(
      f"--from is {round}, but {source} has no {missing.result} of round {missing.round}; start"
      " that run again, which plays what is missing."
    )
  damage = find_damage(source, finished, None)
  if damage:
    raise ConfigError(
      f"{damage[0].sentence} Start that run with --repair to play what is needed again, and branch"
      " then."
    )
  load_own_tokenizer(source)  # checks that it is unchanged


def _check_phases(known: Config, config: Config, round: int) -> None:
  """Checks that something is left to play, behind the very phases that are finished."""
  if config.rounds <= round:
    raise ConfigError(
      f"config.rounds is {config.rounds}, so that behind --from={round} no round is left to play;"
      f" give --config.rounds={round + 1} or more."
    )
  if known.policy.reads_baselines != config.policy.reads_baselines:
    raise ConfigError(
      f"config.policy.shapings is {_names(config)}, but in the run to branch from it is"
      f" {_names(known)}, and answers of the supervised start, which only one of the two reads, are"
      " drawn before the first round; start a new run."
    )
  before, after = (phase_names(dataclasses.replace(one, rounds=round)) for one in (known, config))
  if before != after and known.policy.loss.reads_rewards != config.policy.loss.reads_rewards:
    raise ConfigError(
      f"config.policy.loss is {config.policy.loss.name!r}, but rounds 1 to {round} were played"
      f" with {known.policy.loss.name!r}, and only one of the two has reward steps; give --from=0,"
      " or the old loss."
    )
  if before != after:
    raise ConfigError(
      f"config.reward.mode is {config.reward.mode!r}, but rounds 1 to {round} were played with"
      f" {known.reward.mode!r}, whose rounds have other phases; give --from=0, or the old mode."
    )


def _names(config: Config) -> list[str]:
  return [type(shaping).name for shaping in config.policy.shapings]


def _check_target(target: RunDirectory) -> None:
  path = target.path
  find_path(path, "--run_dir", "a branch is made there")
  try:
    is_new = not path.exists() or (path.is_dir() and not any(path.iterdir()))
  except OSError as error:
    raise ConfigError(f"--run_dir is {str(path)!r}, which cannot be used: {error}.") from error
  if not is_new:
    raise ConfigError(f"--run_dir is {str(path)!r}, which is there already; give a new directory.")


def _players_to_take(
  source: RunDirectory, known: Config, config: Config, round: int
) -> list[Player]:
  """The players that later rounds read, and the others of the first and the last round taken over.

  Raises:
    ConfigError: one that is read is no longer kept.
  """
  missing = [one for one in _read_later(config, round) if not _is_kept(source, one)]
  if missing:
    possible = [
      str(other)
      for other in range(min(last_finished(source), config.rounds - 1) + 1)
      if all(_is_kept(source, one) for one in _read_later(config, other))
    ]
    said = f"{'rounds' if len(possible) > 1 else 'round'} {', '.join(possible)}"
    raise ConfigError(
      f"--from is {round}, whose {missing[0].kind} is no longer kept (config.checkpoints.keep is"
      f" {known.checkpoints.keep}); {said if possible else 'none'} can be branched from."
    )
  ends = phase_names(dataclasses.replace(known, rounds=round))
  made = [name.player for name in ends if name.player and name.round in (0, round)]
  return [player for player in made if _is_kept(source, player)] + [
    player for player in _read_later(config, round) if player not in made
  ]


def _read_later(config: Config, round: int) -> list[Player]:
  """The players of rounds up to this one that later rounds read, in the order of the game."""
  listed = phase_names(config)
  read = {one for name in listed if name.round > round for one in inputs_of(config, name).phases}
  return [name.player for name in listed if name in read and name.player and name.round <= round]


def _is_kept(source: RunDirectory, player: Player) -> bool:
  return source.checkpoints(player.name).is_dir()


def _check_copy(
  source: RunDirectory, made: RunDirectory, config: Config, players: list[Player], round: int
) -> None:
  """Checks that all that was copied is what the other run wrote.

  Raises:
    ConfigError: it is not.
  """
  finished = finished_phases(made, phase_names(dataclasses.replace(config, rounds=round)))
  damage = find_damage(made, finished, None)
  if damage:
    raise ConfigError(
      f"{damage[0].path.name}, copied from {source}, {damage[0].problem}; try again."
    )
  origins = find_origins(config)
  check_weights(made, origins)
  mesh = mesh_for((origins.policy, origins.reward, origins.testing_reward))
  with jax.set_mesh(mesh):
    models = make_models(config, origins, mesh)
    for player in players:
      try:
        load_last(made, player, models.of(player))
      except DamagedCheckpoint as error:
        raise ConfigError(
          f"{str(error).replace(str(made), str(source))} Start that run with --repair to play what"
          " is needed again, and branch then."
        ) from error


@contextlib.contextmanager
def _new_directory(source: RunDirectory, target: RunDirectory) -> Iterator[RunDirectory]:
  """A directory to write to, which becomes `target` at the end."""
  path = target.path.absolute()
  made = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
  try:
    made.mkdir(parents=True)
    yield RunDirectory(made)
    os.replace(made, path)
  except ConfigError:
    raise
  except (OSError, ValueError, KeyError) as error:
    said = str(error).replace(str(made), str(path))
    raise ConfigError(
      f"{source} could not be copied to --run_dir, {str(target)!r}: {said}"
    ) from error
  finally:
    shutil.rmtree(made, ignore_errors=True)


def _commit() -> str | None:
  """The commit of the package's source; None where it lies in no git repository of its own."""
  command = ["git", "-C", str(PACKAGE), "rev-parse", "--show-prefix", "HEAD"]
  try:
    found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
  except (OSError, subprocess.SubprocessError):
    return None
  prefix, _, commit = found.stdout.strip().partition("\n")
  return commit if prefix == f"{PACKAGE.name}/" else None
