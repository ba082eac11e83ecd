"""Exports a player of a run: finds its parameters, and writes all that belongs to them."""

import contextlib
import dataclasses
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from apo_jax.config.fields import ConfigError
from apo_jax.config.folders import problem_of_folder
from apo_jax.config.schema import Config
from apo_jax.data.tokens import Codec
from apo_jax.devices.processes import barrier, of_the_first
from apo_jax.export import peft as peft_export
from apo_jax.export import weights
from apo_jax.export.card import Origin, model_card
from apo_jax.export.tokenizer import (
  export_tokenizer,
  generation_config,
  policy_padding,
  reward_padding,
)
from apo_jax.export.tokenizer_files import save_tokenizer
from apo_jax.export.weights import DataType
from apo_jax.logs.files import write_json, write_text
from apo_jax.logs.places import Place, absolute
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.models.definition import Definition
from apo_jax.models.hugging_face.config import Checkpoint
from apo_jax.run.branched import read_branch
from apo_jax.run.models import Models, make_models
from apo_jax.run.opening import find_player, mesh_for, read_run_config, run_codec
from apo_jax.run.origins import Origins, find_origins
from apo_jax.run.ownership import check_weights
from apo_jax.run.parameters import ParameterStore, finished_parameters
from apo_jax.run.players import Kind, Player

# The family of models whose weights started at random (models/architecture.py).
_SHAPE_FAMILY = "llama"


def export(
  run_dir: Place,
  output: Path,
  *,
  player: Kind,
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
  run = RunDirectory(run_dir)
  config = read_run_config(run)
  _check_output(output)
  _check_adapter(config, player, adapter)
  origins = find_origins(_with_whole_weights(config))
  check_weights(run, origins, "--run")
  if adapter:
    _check_base(config, origins, player)
  codec = run_codec(config, run, origins)
  if player == "policy":
    padding = policy_padding(codec)
  else:
    padding = reward_padding(codec, config.reward.pooling)
  mesh = mesh_for((origins.policy, origins.reward, origins.testing_reward))
  with jax.set_mesh(mesh):
    models = make_models(config, origins, mesh)
    round, found = find_player(run, config, player, round)
    origin = Origin(
      run=absolute(run_dir).name,
      config=config,
      round=round,
      player=player,
      base=_base(config, player),
      is_adapter=adapter,
      branch=read_branch(run),
    )
    if adapter:
      made = _adapters(run, models, origin, found, dtype)
      max_file_bytes = sys.maxsize  # PEFT knows no index of several files
    else:
      made = _whole(run, models, codec, found, padding, dtype)
    with _new_directory(output) as directory:
      weights.write_weights(directory, made.tensors, made.stem, max_file_bytes)
      if directory is not None:
        write_json(directory / made.config_file, made.config)
        _write_small_files(directory, origin, codec, padding, _tokenizer_sources(config, origins))
    barrier("export")
  # The judge is trained once, before the first round, whatever round was asked for.
  of = ", the same in every round" if player == "testing_reward" else f" of round {round}"
  parts = f"{of}, its adapters alone" if adapter else of
  return f"The {player}{parts}{',' if ',' in parts else ''}"


def _with_whole_weights(config: Config) -> Config:
  """The config with frozen weights as their checkpoint has them.

  Adapters are merged into these, as PEFT merges them, not into what they were trained beside.
  """
  return dataclasses.replace(
    config, model=dataclasses.replace(config.model, frozen_dtype="float32")
  )


def _check_adapter(config: Config, player: Kind, adapter: bool) -> None:
  lora = config.policy.lora if player == "policy" else config.reward.lora
  why = f"config.{'policy' if player == 'policy' else 'reward'}.lora.rank is {lora.rank}"
  has_own_start = player == "testing_reward" and config.testing_reward.has_own_start
  if has_own_start:
    why = "config.testing_reward gives the judge weights of its own"
  if adapter and (has_own_start or not lora.rank):
    raise ConfigError(
      f"--adapter is given, but {why}: every weight was trained; leave --adapter out to export them"
      " all."
    )


def _check_base(config: Config, origins: Origins, player: Kind) -> None:
  """Whoever loads adapters loads their base too, which must be as it stands there."""
  is_own = player != "policy" and config.reward.checkpoint
  field = "config.reward.checkpoint" if is_own else "config.model.checkpoint"
  checkpoint = origins.checkpoints[field]
  if checkpoint.adapter is not None or checkpoint.renamed:
    what = "is adapters itself" if checkpoint.adapter is not None else "names its tensors otherwise"
    raise ConfigError(
      f"--adapter is given, but {checkpoint.where(field)}, which {what}: other tools could not load"
      " it below these; leave --adapter out to export the whole model."
    )


def _check_output(output: Path) -> None:
  """The first process looks; all must agree, or some would wait for others."""
  problem = problem_of_folder(output)
  is_new = not problem and (not output.exists() or not any(output.iterdir()))
  if not of_the_first(is_new):
    why = f"cannot be used: {problem}" if problem else "is there already; give a new directory"
    raise ConfigError(f"--output is {str(output)!r}, which {why}.")


def _base(config: Config, player: Kind) -> str:
  """The checkpoint that a player started from, "" for none; a directory by its whole path."""
  base = config.model.checkpoint
  if player == "testing_reward" and config.testing_reward.has_own_start:
    base = config.testing_reward.checkpoint
  elif player != "policy" and config.reward.checkpoint:
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


def _tokenizer_sources(config: Config, origins: Origins) -> tuple[Path, ...]:
  """Where the run's tokenizer was read from."""
  if config.tokenizer.path:
    return (Path(config.tokenizer.path),)
  policy = origins.policy_checkpoint
  return () if policy is None else (policy.tokenizer_directory,)


def _write_small_files(
  directory: Path, origin: Origin, codec: Codec, padding: int, sources: tuple[Path, ...]
) -> None:
  """Tokenizer, generation config and README.md."""
  save_tokenizer(export_tokenizer(codec, origin.config, padding), directory, sources)
  if origin.is_policy:
    settings = generation_config(codec, origin.config, padding)
    write_json(directory / "generation_config.json", settings)
  write_text(directory / "README.md", model_card(origin, codec, padding))


class _Weights(NamedTuple):
  """Weights to be written as STEM.safetensors, with what `config_file` says of them."""

  stem: str
  tensors: list[weights.Tensor]
  config_file: str
  config: dict[str, Any]


def _adapters(
  run: RunDirectory, models: Models, origin: Origin, player: Player, dtype: DataType
) -> _Weights:
  """The adapters alone."""
  definition = models.of(player)
  checkpoint = _checkpoint(models, player)  # without one adapters are refused with the config
  family = checkpoint.family
  _check_class(family, player)
  if checkpoint.is_text_part:
    raise ConfigError(
      f"--adapter is given, but {origin.base} is a model of images and text, whose modules have"
      " other names than its text part's alone; leave --adapter out to export the text part whole."
    )
  trained = finished_parameters(run, player, definition)
  return _Weights(
    peft_export.STEM,
    peft_export.adapter_tensors(trained, definition, family, dtype),
    peft_export.CONFIG_FILE,
    peft_export.adapter_config(definition, family, origin.base, reward=not player.is_policy),
  )


def _whole(
  run: RunDirectory,
  models: Models,
  codec: Codec,
  player: Player,
  padding: int,
  dtype: DataType,
) -> _Weights:
  """The whole model, its adapters merged."""
  definition, checkpoint = models.of(player), _checkpoint(models, player)
  family = checkpoint.family if checkpoint else _SHAPE_FAMILY
  _check_class(family, player)
  base = checkpoint.hf_config if checkpoint else _shape_config(models, definition, codec)
  parameters = ParameterStore(models, run, park_idle_player=False).of(player)
  if player.is_policy:
    config = weights.policy_config(base, family, definition.architecture, dtype)
    tensors = weights.policy_tensors(parameters, definition, family, dtype)
  else:
    config = weights.reward_config(base, family, definition.architecture, dtype, padding)
    tensors = weights.reward_tensors(parameters, definition, family, dtype)
  return _Weights(weights.STEM, tensors, weights.CONFIG_FILE, config)


def _check_class(family: str, player: Player) -> None:
  if not player.is_policy and not weights.has_classifier(family):
    raise ConfigError(
      f"--player is {player.kind!r}, a reward model of the family {family}, of which the"
      " transformers library has no sequence classifier; only the policy can be exported."
    )


def _checkpoint(models: Models, player: Player) -> Checkpoint | None:
  """The checkpoint that a player started from; None where its weights started at random."""
  origins = models.origins
  if player.is_policy:
    return origins.policy_checkpoint
  own = origins.testing_reward_checkpoint
  if player.kind == "testing_reward" and (own is not None or models.testing_trunk is not None):
    return own
  return origins.reward_checkpoint or origins.policy_checkpoint


def _shape_config(models: Models, definition: Definition, codec: Codec) -> dict[str, Any]:
  """The base of config.json for weights that started at random."""
  longest = max(models.row_lengths[-1], models.judged_length)
  return weights.llama_config(definition.architecture, longest) | {
    "bos_token_id": codec.tokenizer.bos_token_id,
    "eos_token_id": codec.eos,
    "pad_token_id": policy_padding(codec),
  }
