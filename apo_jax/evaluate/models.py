"""The models that are evaluated: players of runs, and Hugging Face checkpoints no run has made.

A `Source` is known without its weights, so that all that is asked for is checked first and one mesh
is made for all; `Source.load` reads the weights onto it, and they go when nobody holds them.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
from absl import logging
from jax.sharding import Mesh

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config, DataConfig, ModelConfig, SamplerConfig, SamplingConfig
from apo_jax.data.template_check import check_template
from apo_jax.data.tokens import Codec, load_tokenizer, make_codec
from apo_jax.logs.places import Place, absolute
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.models.architecture import Architecture
from apo_jax.models.definition import (
  Definition,
  Parameters,
  define_policy,
  define_reward_model,
)
from apo_jax.models.hugging_face.checkpoint import Checkpoint
from apo_jax.models.hugging_face.config import (
  read_architecture,
  read_ends,
  resolve_directory,
)
from apo_jax.models.hugging_face.importing import TensorFiles, import_decoder
from apo_jax.run.models import make_models
from apo_jax.run.opening import find_player, read_run_config, run_codec
from apo_jax.run.origins import Origins, find_origins
from apo_jax.run.ownership import check_weights
from apo_jax.run.parameters import ParameterStore
from apo_jax.run.players import Kind, Player
from apo_jax.run.starts import imported_reward

# Tokens of a row for checkpoints that say no limit of their own.
_USUAL_LIMIT = 4096


@dataclasses.dataclass(frozen=True)
class Source:
  """A model that can be loaded.

  Attributes:
    name: what results call it.
    codec: how it reads text.
    limit: tokens of the longest row that it reads, eos included.
    architecture: of its decoder.
    load: its definition and its parameters, on a mesh.
  """

  name: str
  codec: Codec
  limit: int
  architecture: Architecture
  load: Callable[[Mesh], tuple[Definition, Parameters]]


@dataclasses.dataclass(frozen=True)
class OpenedRun:
  """A run that is read.

  Attributes:
    directory: its directory.
    config: its config.
    origins: what its players started from.
    codec: how its models read text.
    flag: what named it, for errors.
  """

  directory: RunDirectory
  config: Config
  origins: Origins
  codec: Codec
  flag: str

  @property
  def name(self) -> str:
    """The directory's name."""
    return absolute(self.directory.path).name

  def find(self, kind: Kind, round: int | None, flag: str = "--round") -> tuple[int, Player]:
    """A player after a round, by default the last finished; raises ConfigError without one."""
    return find_player(self.directory, self.config, kind, round, flag)

  def source(self, kind: Kind, round: int | None) -> Source:
    """A player after a round, by default the last that is finished.

    Raises:
      ConfigError: there is no such player, or it is no longer kept.
    """
    round, player = self.find(kind, round)
    said = "testing reward" if kind == "testing_reward" else f"{kind} of round {round}"
    return self.source_of(player, f"{self.name}, {said}")

  def source_of(self, player: Player, name: str) -> Source:
    """A player that is known to be there."""
    origins = self.origins
    architecture = {
      "policy": origins.policy,
      "reward": origins.reward,
      "testing_reward": origins.testing_reward,
    }[player.kind]

    def load(mesh: Mesh) -> tuple[Definition, Parameters]:
      models = make_models(self.config, origins, mesh)
      store = ParameterStore(models, self.directory, park_idle_player=False)
      return models.of(player), store.of(player)

    return Source(name, self.codec, self.codec.judged_length, architecture, load)


def open_run(path: Place, flag: str) -> OpenedRun:
  """The run in a directory; `flag` named it, for errors.

  Raises:
    ConfigError: there is none, or the checkpoints it started from are gone or have changed.
  """
  directory = RunDirectory(path)
  config = read_run_config(directory, flag)
  origins = find_origins(config)
  check_weights(directory, origins, flag)
  return OpenedRun(directory, config, origins, run_codec(config, directory, origins), flag)


def is_run(path: Place) -> bool:
  """Whether a directory is a run's, and not a checkpoint's."""
  return RunDirectory(path).rounds.is_dir()


def checkpoint_policy(name: str, flag: str, sampler: SamplerConfig) -> Source:
  """A Hugging Face language model, which answers by a sampler in its own words.

  Args:
    name: a directory or a name of the hub.
    flag: what named it, for errors.
    sampler: leaves the query what is left of the model's positions.

  Raises:
    ConfigError: it is not there, or no language model that can be imported with its tokenizer.
  """
  checkpoint = _checkpoint(name, flag)
  if checkpoint.is_reward:
    raise ConfigError(f"{flag} is {name!r}, a sequence classifier; it must be a language model.")
  limit = _limit(checkpoint)
  room = limit - sampler.max_new_tokens - 1
  if room < 1:
    raise ConfigError(
      f"--max_new_tokens is {sampler.max_new_tokens}, which with a query and an end needs more"
      f" than the {limit} positions of {flag} {name!r}; give less."
    )

  def load(mesh: Mesh) -> tuple[Definition, Parameters]:
    definition = define_policy(checkpoint.architecture, mesh)
    return definition, import_decoder(checkpoint, definition.abstract, flag)

  codec = _codec(checkpoint, flag, query_length=room, row_length=limit, sampler=sampler)
  return Source(_short(name), codec, limit, checkpoint.architecture, load)


def checkpoint_reward(name: str, flag: str) -> Source:
  """A Hugging Face sequence classifier of one label.

  It reads what `transformers` would: the last token that is no padding, which is the end of the
  response, or where the model pads with that very token the one before it; of OpenRLHF's classes
  always the end.

  Raises:
    ConfigError: it is not there, or no reward model that can be imported with its tokenizer.
  """
  checkpoint = _checkpoint(name, flag)
  if not checkpoint.is_reward:
    raise ConfigError(
      f"{flag} is {name!r}, a language model; it must be a sequence classifier of one label."
    )
  limit = _limit(checkpoint)
  codec = _codec(checkpoint, flag, query_length=limit - 1, row_length=limit)
  padding = checkpoint.hf_config.get("pad_token_id")
  if checkpoint.adapter is not None:  # config.json is the base's, and may be a language model's
    padding = codec.tokenizer.pad_token_id
  pooling = "last" if padding == codec.eos and not checkpoint.reads_the_end else "eos"

  def load(mesh: Mesh) -> tuple[Definition, Parameters]:
    definition = define_reward_model(checkpoint.architecture, pooling, mesh)
    return definition, imported_reward(checkpoint, definition, flag)

  return Source(_short(name), codec, limit, checkpoint.architecture, load)


def _checkpoint(name: str, flag: str) -> Checkpoint:
  dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
  model = ModelConfig(checkpoint=name, compute_dtype=dtype)
  checkpoint = read_architecture(resolve_directory(name, flag), model, flag)
  files = TensorFiles(checkpoint, flag)  # checks every tensor's name, shape and type
  for note in (*checkpoint.notes, *files.notes):
    logging.warning("%s: %s.", flag, note)
  return checkpoint


def _codec(
  checkpoint: Checkpoint,
  flag: str,
  *,
  query_length: int,
  row_length: int,
  sampler: SamplerConfig | None = None,
) -> Codec:
  """A checkpoint's own tokenizer and chat template; without a template, the HH form."""
  sampler = sampler or SamplerConfig(max_new_tokens=1)
  config = Config(
    data=DataConfig(query_length=query_length, row_length=row_length),
    sampling=SamplingConfig(training=sampler, evaluation=sampler),
  )
  tokenizer = load_tokenizer(checkpoint.tokenizer_directory, flag)
  ends = read_ends(checkpoint.generation_directory, flag)
  codec = make_codec(tokenizer, config, checkpoint.architecture.vocab_size, ends)
  try:
    check_template(codec, ())
  except ConfigError as error:
    raise ConfigError(f"{flag} is {str(checkpoint.directory)!r}: {error}") from error
  return codec


def _limit(checkpoint: Checkpoint) -> int:
  limits = (checkpoint.architecture.longest_row, checkpoint.positions)
  return min((limit for limit in limits if limit), default=_USUAL_LIMIT)


def _short(name: str) -> str:
  """The directory's name, or the hub's."""
  return Path(name).absolute().name if Path(name).is_dir() else name
