"""A run that is there, opened again to be read: config, tokenizer, players, a mesh for them."""

import dataclasses
import math
from collections.abc import Iterable

import jax
import ml_collections
from jax.sharding import Mesh

from apo_jax.config.base import fields_of_json
from apo_jax.config.fields import ConfigError, read_fields
from apo_jax.config.schema import Config, MeshConfig
from apo_jax.data.templates import HH
from apo_jax.data.tokens import Codec
from apo_jax.devices.processes import of_the_first
from apo_jax.devices.sharding import make_mesh, tpu_slices
from apo_jax.logs.files import read_json
from apo_jax.logs.run_directory import EVALUATION, SCORE, RunDirectory
from apo_jax.models.architecture import Architecture
from apo_jax.run.origins import Origins
from apo_jax.run.players import Kind, Player, Players
from apo_jax.run.tokenizer import load_own_tokenizer, make_run_codec


def read_run_config(run: RunDirectory, flag: str = "--run") -> Config:
  """The config of a run; `flag` named its directory, for errors.

  It is not checked against files and devices again: the data may be gone, and the mesh is another.

  Raises:
    ConfigError: the directory is no run's.
  """
  try:
    given = read_json(run.config)
  except (OSError, ValueError) as error:
    raise ConfigError(
      f"{flag} is {str(run)!r}, which holds no config.json that can be read; it must be the "
      "directory of a run."
    ) from error
  fields = fields_of_json(given, f"the run in {run}")
  return read_fields(Config, ml_collections.ConfigDict(fields), "config")


def run_codec(config: Config, run: RunDirectory, origins: Origins) -> Codec:
  """The run's codec; its tokenizer brings the chat template, whose file may be gone."""
  if config.data.chat_template != HH:
    data = dataclasses.replace(config.data, chat_template="")
    config = dataclasses.replace(config, data=data)
  return make_run_codec(load_own_tokenizer(run), config, origins)


def mesh_for(models: Iterable[Architecture]) -> Mesh:
  """All devices, the weights of these models split over as many of a slice as they can be."""
  devices = jax.device_count()
  of_a_slice = devices // tpu_slices(jax.devices())
  shards = math.gcd(of_a_slice, *(one.embed_dim for one in models))
  return make_mesh(MeshConfig(data=devices // shards, fsdp=shards, tensor=1))


def last_finished(run: RunDirectory) -> int:
  """The last round that is finished; -1 where none is."""
  judged = (path.parent.name for path in run.rounds.glob(f"*/{EVALUATION}"))
  finished = [int(name) for name in judged if name.isdecimal()]
  return of_the_first(max(finished, default=-1))


def find_player(
  run: RunDirectory, config: Config, kind: Kind, round: int | None, flag: str = "--round"
) -> tuple[int, Player]:
  """The round, by default the last that finished, and the player that it left.

  `flag` named the round, for errors.

  Raises:
    ConfigError: the round is not finished, or its checkpoint is no longer kept.
  """
  if kind == "testing_reward":
    round = 0  # it is trained once, before the first round
  last = last_finished(run)
  if round is None and last < 0:
    raise ConfigError(f"--run is {str(run)!r}, in which no round is finished yet.")
  round = last if round is None else round
  player = _player(config, kind, round)
  # A reward model that stays fixed has no training in a round; it is done where all is scored.
  result = f"{player.phase}.json" if player.round == round else SCORE
  if round < 0 or not of_the_first((run.round(round) / result).exists()):
    until = f"the last finished is {last}" if last >= 0 else "none is finished yet"
    raise ConfigError(f"{flag} is {round}, in which no {kind} was finished; {until}.")
  if not of_the_first(run.checkpoints(player.name).exists()):
    kept = [str(one) for one in range(last + 1) if _is_kept(run, config, kind, one)]
    raise ConfigError(
      f"{flag} is {round}, whose {kind} is no longer kept: config.checkpoints.keep is "
      f"{config.checkpoints.keep}, and the last round is {last}; kept are those of "
      f"{', '.join(kept)}."
    )
  return round, player


def _player(config: Config, kind: Kind, round: int) -> Player:
  """Whom a round left."""
  players = Players(config)
  return {
    "policy": players.policy_after(round),
    "reward": players.reward_after(round),
    "testing_reward": players.testing_reward,
  }[kind]


def _is_kept(run: RunDirectory, config: Config, kind: Kind, round: int) -> bool:
  return bool(of_the_first(run.checkpoints(_player(config, kind, round).name).exists()))
