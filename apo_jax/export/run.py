"""Exports a player of a run: finds its parameters, and writes all that belongs to them."""

import contextlib
import dataclasses
import math
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from apo_jax.config.fields import ConfigError, read_fields
from apo_jax.config.schema import Config, MeshConfig
from apo_jax.data.records import GameData, Split
from apo_jax.data.templates import HH
from apo_jax.data.tokens import Codec, load_tokenizer, make_codec
from apo_jax.devices.sharding import make_mesh, tpu_slices
from apo_jax.export import peft as peft_export
from apo_jax.export import weights
from apo_jax.export.card import Origin, model_card
from apo_jax.export.tokenizer import (
  export_tokenizer,
  generation_config,
  policy_padding,
  reward_padding,
)
from apo_jax.export.weights import DataType
from apo_jax.logs.files import read_json, write_json, write_text
from apo_jax.logs.metrics import MetricsWriter
from apo_jax.logs.progress import Progress
from apo_jax.models.definition import Definition
from apo_jax.models.hugging_face.config import Checkpoint
from apo_jax.run.context import RunContext
from apo_jax.run.directory import barrier, check_weights
from apo_jax.run.origins import Origins, find_origins
from apo_jax.training.checkpoints import load_parameters

Player = Literal["policy", "reward", "testing_reward"]

# The family of models whose weights started at random (models/architecture.py).
_SHAPE_FAMILY = "llama"


def export(
  run_dir: Path,
  output: Path,
  *,
  player: Player,
  round: int | None = None,
  adapter: bool = False,
  dtype: DataType = "float32",
  max_file_bytes: int = weights.MAX_FILE_BYTES,
) -> str:
  """Writes a player to the directory `output`, and returns what it is in a few words.

  With several processes every one calls this, and the first writes. `output` appears whole, or
  not at all.

  Args:
    run_dir: of the run.
    output: is new or empty.
    player: whom.
    round: the round that left the player so, 0 for its start; None is the last that finished.
    adapter: write the adapters alone, as PEFT files; else they are merged.
    dtype: of the weights.
    max_file_bytes: a file of weights holds no more, unless it is one tensor.

  Raises:
    ConfigError: there is no such player, it cannot be expressed, or `output` cannot be written.
  """
  output = output.absolute()
  config = _read_config(run_dir)
  _check_output(output)
  lora = config.policy.lora if player == "policy" else config.reward.lora
  if adapter and not lora.rank:
    section = "policy" if player == "policy" else "reward"
    raise ConfigError(
      f"--adapter is given, but config.{section}.lora.rank is 0: every weight was trained; leave "
      "--adapter out to export them all."
    )
  origins = find_origins(config)
  check_weights(run_dir, origins)
  codec = _codec(config, run_dir, origins)
  if player == "policy":
    padding = policy_padding(codec)
  else:
    padding = reward_padding(codec, config.reward.pooling)
  mesh = _mesh(origins)
  with jax.set_mesh(mesh):
    run = _open_run(config, run_dir, mesh, origins, codec)
    round, name = _find(run, player, round)
    origin = Origin(
      run=run_dir.absolute().name,
      config=config,
      round=round,
      player=player,
      base=_base(config, player),
      is_adapter=adapter,
    )
    if adapter:
      made = _adapters(run, origin, name, dtype)
      max_file_bytes = sys.maxsize  # PEFT knows no index of several files
    else:
      made = _whole(run, origin, name, padding, dtype)
    with _new_directory(output) as directory:
      weights.write_weights(directory, made.tensors, made.stem, max_file_bytes)
      if directory is not None:
        write_json(directory / made.config_file, made.config)
        _write_small_files(directory, origin, run, padding)
    barrier("export")
  return f"The {player} of round {round}{', its adapters alone,' if adapter else ''}"


def _read_config(run_dir: Path) -> Config:
  # Not checked against files and devices again: the data may be gone, and the mesh is another.
  try:
    given = read_json(run_dir / "config.json")
  except (OSError, ValueError) as error:
    raise ConfigError(
      f"--run is {str(run_dir)!r}, which holds no config.json that can be read; it must be the "
      "directory of a run."
    ) from error
  return read_fields(Config, ml_collections.ConfigDict(given), "config")


def _check_output(output: Path) -> None:
  """The first process looks; all must agree, or some would wait for others."""
  is_new = not output.exists() or (output.is_dir() and not any(output.iterdir()))
  if not _agreed(int(is_new)):
    raise ConfigError(f"--output is {str(output)!r}, which is there already; give a new directory.")


def _agreed(value: int) -> int:
  """The first process's value."""
  if jax.process_count() == 1:
    return value
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def _codec(config: Config, run_dir: Path, origins: Origins) -> Codec:
  """The run's codec; its tokenizer brings the chat template, whose file may be gone."""
  tokenizer = load_tokenizer(run_dir / "tokenizer", "the run directory's tokenizer")
  if config.data.chat_template != HH:
    data = dataclasses.replace(config.data, chat_template="")
    config = dataclasses.replace(config, data=data)
  return make_codec(tokenizer, config, origins.policy.vocab_size)


def _mesh(origins: Origins) -> Mesh:
  """All devices, the weights split over as many of a slice as they can be."""
  devices = jax.device_count()
  of_a_slice = devices // tpu_slices(jax.devices())
  shards = math.gcd(of_a_slice, origins.policy.embed_dim, origins.reward.embed_dim)
  return make_mesh(MeshConfig(data=devices // shards, fsdp=shards, tensor=1))


def _open_run(
  config: Config, run_dir: Path, mesh: Mesh, origins: Origins, codec: Codec
) -> RunContext:
  """The run as far as an export reads it: without data, and without a place for metrics."""
  nothing = Split((), (), ())
  data = GameData((), nothing, nothing, nothing)
  writer = MetricsWriter(
    run_dir, tensorboard=False, wandb=False, wandb_project="", config={}, enabled=False
  )
  return RunContext(config, run_dir, mesh, origins, data, codec, Progress(False), writer)


def _find(run: RunContext, player: Player, round: int | None) -> tuple[int, str]:
  """The round, and the name of the player's checkpoints.

  Raises:
    ConfigError: the round is not finished, or its checkpoint is no longer kept.
  """
  if player == "testing_reward":
    round = 0  # it is trained once, before the first round
  finished = [path.parent.name for path in run.run_dir.glob("rounds/*/evaluation.json")]
  last = _agreed(max(map(int, finished), default=-1))
  if round is None and last < 0:
    raise ConfigError(f"--run is {str(run.run_dir)!r}, in which no round is finished yet.")
  round = last if round is None else round
  name, result = _name_and_result(run, player, round)
  if round < 0 or not _agreed(int((run.round_dir(round) / result).exists())):
    until = f"the last finished is {last}" if last >= 0 else "none is finished yet"
    raise ConfigError(f"--round is {round}, in which no {player} was finished; {until}.")
  if not _agreed(int(run.checkpoint_dir(name).exists())):
    raise ConfigError(
      f"--round is {round}, whose {player} is no longer kept: config.checkpoints.keep is "
      f"{run.config.checkpoints.keep}, and the last round is {last}."
    )
  return round, name


def _name_and_result(run: RunContext, player: Player, round: int) -> tuple[str, str]:
  """The name of the player's checkpoints, and the file that says that it is finished."""
  if player == "policy":
    return run.policy_after(round), "policy.json" if round else "supervised.json"
  if player == "testing_reward":
    return run.testing_reward, "testing_reward.json"
  if round and run.config.reward.update == "fixed":
    return run.reward_after(round), "score.json"
  return run.reward_after(round), "reward.json" if round else "reward_base.json"


def _base(config: Config, player: Player) -> str:
  """The checkpoint that a player started from; a directory by its whole path."""
  base = config.model.checkpoint
  if player != "policy" and config.reward.checkpoint:
    base = config.reward.checkpoint
  return str(Path(base).absolute()) if base and Path(base).is_dir() else base


@contextlib.contextmanager
def _new_directory(path: Path) -> Iterator[Path | None]:
  """A directory to write to, which becomes `path` at the end; None in the other processes."""
  if jax.process_index() != 0:
    yield None
    return
  temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
  try:
    temporary.mkdir(parents=True)
    yield temporary
    for file in temporary.iterdir():
      with open(file, "rb") as opened:
        os.fsync(opened.fileno())
    os.replace(temporary, path)
  except OSError as error:
    raise ConfigError(f"--output is {str(path)!r}, which cannot be written: {error}.") from error
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _write_small_files(directory: Path, origin: Origin, run: RunContext, padding: int) -> None:
  """Tokenizer, generation config and README.md."""
  export_tokenizer(run.codec, run.config, padding).save_pretrained(directory)
  if origin.is_policy:
    settings = generation_config(run.codec, run.config, padding)
    write_json(directory / "generation_config.json", settings)
  write_text(directory / "README.md", model_card(origin, run.codec, padding))


class _Weights(NamedTuple):
  """Weights to be written as STEM.safetensors, with what `config_file` says of them."""

  stem: str
  tensors: list[weights.Tensor]
  config_file: str
  config: dict[str, Any]


def _adapters(run: RunContext, origin: Origin, name: str, dtype: DataType) -> _Weights:
  """The adapters alone."""
  definition, checkpoint = _model(run, origin)
  family = checkpoint.family  # adapters without a checkpoint are refused with the config
  trained = load_parameters(run.checkpoint_dir(name), definition)
  reward = not origin.is_policy
  return _Weights(
    peft_export.STEM,
    peft_export.adapter_tensors(trained, definition, family, dtype),
    peft_export.CONFIG_FILE,
    peft_export.adapter_config(definition, family, origin.base, reward=reward),
  )


def _whole(run: RunContext, origin: Origin, name: str, padding: int, dtype: DataType) -> _Weights:
  """The whole model, its adapters merged."""
  definition, checkpoint = _model(run, origin)
  family = checkpoint.family if checkpoint else _SHAPE_FAMILY
  base = checkpoint.hf_config if checkpoint else _shape_config(run)
  parameters = run.parameters(name)
  if origin.is_policy:
    config = weights.policy_config(base, family, definition.architecture, dtype)
    tensors = weights.policy_tensors(parameters, definition, family, dtype)
  else:
    config = weights.reward_config(base, family, definition.architecture, dtype, padding)
    tensors = weights.reward_tensors(parameters, definition, family, dtype)
  return _Weights(weights.STEM, tensors, weights.CONFIG_FILE, config)


def _model(run: RunContext, origin: Origin) -> tuple[Definition, Checkpoint | None]:
  """A player's model, and the checkpoint that it started from."""
  policy_checkpoint = run.origins.policy_checkpoint
  if origin.is_policy:
    return run.policy, policy_checkpoint
  return run.reward_model, run.origins.reward_checkpoint or policy_checkpoint


def _shape_config(run: RunContext) -> dict[str, Any]:
  """The base of config.json for weights that started at random."""
  config = run.config
  evaluated = config.data.query_length + config.sampling.evaluation.max_new_tokens + 1
  return weights.llama_config(run.origins.policy, max(run.row_lengths[-1], evaluated)) | {
    "bos_token_id": run.codec.tokenizer.bos_token_id,
    "eos_token_id": run.codec.eos,
    "pad_token_id": policy_padding(run.codec),
  }
