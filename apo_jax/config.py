"""The typed, validated, frozen view of a run's config.

A config file builds an `ml_collections.ConfigDict`, which flags may override; `from_config_dict`
turns it into a `Config` or fails with one sentence that names the field. There are no defaults:
what a run does is read in its config file.
"""

import dataclasses
import itertools
import math
import pathlib
from typing import Any, Literal

import ml_collections

from apo_jax.config_fields import (
  AtLeastTwo,
  ConfigError,
  Decay,
  MeshAxis,
  NonEmptyText,
  NonNegativeFloat,
  NonNegativeInt,
  PositiveFloat,
  PositiveInt,
  Probability,
  read_fields,
)


class RewardSection(ml_collections.ConfigDict):
  """The section `reward` of a config file: its field `update` is read as a field.

  A plain ConfigDict would give its method of that name, and no flag could override the field.
  """

  @property
  def update(self) -> str:
    """The field, not ConfigDict's method."""
    return self["update"]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The decoder's shape, shared by the policy and the reward models. Masters are float32."""

  layers: PositiveInt
  embed_dim: PositiveInt
  heads: PositiveInt
  kv_heads: PositiveInt  # divides heads
  head_dim: PositiveInt  # even: rotary positions turn pairs of features
  mlp_dim: PositiveInt
  rope_theta: PositiveFloat
  norm_epsilon: PositiveFloat
  tied_embeddings: bool  # the output projection is the embedding's transpose
  remat: Literal["none", "dots", "full"]  # what the backward pass computes again
  compute_dtype: Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
  """Where the tokenizer comes from."""

  path: str  # "" trains a byte-level BPE on the run's data; else a local directory or a hub name
  vocab_size: PositiveInt  # entries, special tokens included


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """The game's data and the fixed lengths it is brought to."""

  source: Literal["embedded", "files"]
  num_demonstrations: PositiveInt  # sizes of the embedded data, per split where a split has them
  num_preferences: PositiveInt
  num_golden: PositiveInt
  num_queries: PositiveInt
  num_test: PositiveInt
  demonstrations: str  # JSONL paths for source="files", "" where absent
  preferences: str
  golden: str
  queries: str
  query_length: PositiveInt  # tokens with bos and separator; longer queries lose their left
  query_buckets: tuple[PositiveInt, ...]  # padded lengths, ascending, the last is query_length
  response_length: AtLeastTwo  # tokens with eos; longer responses lose their right
  separator: str  # "" for none, else the text of the token between query and response


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """One optimisation: AdamW over some epochs of its data."""

  epochs: NonNegativeInt
  batch_size: PositiveInt  # items an update
  accumulation: PositiveInt  # micro-batches an update
  learning_rate: PositiveFloat
  schedule: Literal["constant", "cosine"]
  warmup_steps: NonNegativeInt
  weight_decay: NonNegativeFloat
  clip_norm: PositiveFloat
  beta1: Decay
  beta2: Decay


@dataclasses.dataclass(frozen=True)
class RewardConfig:
  """The min player: the reward model and its step in a round."""

  update: Literal["adversarial", "preferences_only", "fixed"]
  start: Literal["base", "previous"]  # what a round starts from
  pooling: Literal["last", "eos", "average", "max"]
  kind: Literal["ranking", "difference"]
  reduction: Literal["mean", "reference"]
  apo_coefficient: NonNegativeFloat  # c_apo
  preference_coefficient: NonNegativeFloat  # c_kl
  preference_batch_size: PositiveInt  # preferences an update, beside training.batch_size golden
  base: TrainingConfig  # also trains the testing reward model
  training: TrainingConfig  # a round's reward step


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
  """The max player: the policy and its step in a round."""

  method: Literal["rjs", "rrhf", "dpo"]
  start: Literal["base", "previous"]  # what a round starts from
  reference: Literal["round_start", "initial"]
  beta: PositiveFloat  # DPO
  pairs: Literal["best_worst", "best_rest", "all"]  # DPO
  sft_coefficient: NonNegativeFloat  # lambda of RRHF
  training: TrainingConfig


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
  """How responses are drawn."""

  num_samples: PositiveInt  # responses a query
  temperature: NonNegativeFloat  # 0 is greedy
  top_k: NonNegativeInt  # 0 is off
  top_p: Probability  # 1 is off
  repetition_penalty: PositiveFloat  # 1 is off
  max_new_tokens: PositiveInt
  stop: tuple[NonEmptyText, ...]  # a response ends before the first of these


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
  """The samplers of training and of evaluation."""

  training: SamplerConfig
  evaluation: SamplerConfig
  batch_size: PositiveInt  # queries a sampler call


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """The judgement after each round."""

  num_queries: PositiveInt  # at most so many test queries, and as many test preferences
  batch_size: PositiveInt  # sequences a scoring call
  calibration_bins: PositiveInt


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each mesh axis; at most one axis is -1, which takes what is left."""

  data: MeshAxis
  fsdp: MeshAxis
  tensor: MeshAxis


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  """When training states are saved, and how many stay."""

  every_steps: PositiveInt
  keep: PositiveInt


@dataclasses.dataclass(frozen=True)
class LoggingConfig:
  """Where metrics go beside metrics.jsonl."""

  every_steps: PositiveInt
  tensorboard: bool
  wandb: bool
  wandb_project: str


@dataclasses.dataclass(frozen=True)
class Config:
  """A whole run."""

  seed: NonNegativeInt
  rounds: NonNegativeInt  # 0 stops after the supervised start
  model: ModelConfig
  tokenizer: TokenizerConfig
  data: DataConfig
  supervised: TrainingConfig
  reward: RewardConfig
  policy: PolicyConfig
  sampling: SamplingConfig
  evaluation: EvaluationConfig
  mesh: MeshConfig
  checkpoints: CheckpointConfig
  logging: LoggingConfig


def from_config_dict(config: ml_collections.ConfigDict) -> Config:
  """Returns the validated view of `config`.

  Raises:
    ConfigError: for the first field that is unknown, missing, of a wrong type, out of its range,
      at odds with another field, or that names a file that is not there.
  """
  view = read_fields(Config, config, "config")
  _check_model(view)
  _check_data(view.data, demonstrations_needed=view.supervised.epochs > 0)
  _check_training(view)
  _check_mesh_axes(view.mesh)
  if view.logging.wandb and not view.logging.wandb_project:
    raise ConfigError(
      "config.logging.wandb_project is ''; it must name a project while config.logging.wandb is"
      " True."
    )
  return view


def to_dict(config: Config) -> dict[str, Any]:
  """Returns the nested dict of `config` with lists for tuples, as JSON has them.

  `from_config_dict(ml_collections.ConfigDict(to_dict(config)))` is `config` again.
  """
  return _with_lists(dataclasses.asdict(config))


def _with_lists(value: Any) -> Any:
  if isinstance(value, dict):
    return {name: _with_lists(item) for name, item in value.items()}
  return list(value) if isinstance(value, tuple) else value


def rounded_vocabulary(vocab_size: int) -> int:
  """Rows of the embedding: the next multiple of 128, a tile of the matrix units."""
  return _next_multiple(vocab_size, 128)


def resolve_mesh(config: Config, num_devices: int) -> MeshConfig:
  """Returns the mesh of `config` with its -1, if any, filled so that all devices are used.

  Raises:
    ConfigError: if no mesh of this shape holds exactly `num_devices` devices.
  """
  axes = dataclasses.asdict(config.mesh)
  given = math.prod(size for size in axes.values() if size != -1)
  free = [name for name, size in axes.items() if size == -1]
  shape = ", ".join(f"{name} {size}" for name, size in axes.items())
  if free and num_devices % given:
    raise ConfigError(
      f"config.mesh is {shape}; config.mesh.{free[0]} cannot be filled, as the other axes' product"
      f" {given} must divide the {num_devices} devices there are."
    )
  if not free and given != num_devices:
    raise ConfigError(
      f"config.mesh is {shape}, which is {given} devices; data * fsdp * tensor must be the"
      f" {num_devices} devices there are (an axis of -1 fills itself)."
    )
  return MeshConfig(**{name: num_devices // given if name in free else axes[name] for name in axes})


def check_mesh(config: Config, mesh: MeshConfig) -> None:
  """Checks that every sharded dimension splits evenly over `mesh`, as `resolve_mesh` gave it.

  Batches are split over data * fsdp, weights over fsdp (embed_dim) and tensor (the others).

  Raises:
    ConfigError: for the first dimension that does not, with the next size that would.
  """
  if min(mesh.data, mesh.fsdp, mesh.tensor) < 1:
    raise ConfigError(f"config.mesh is {mesh}; its -1 must be filled by resolve_mesh first.")
  batch_shards = mesh.data * mesh.fsdp
  batches = [
    *((name, size, accumulation) for name, size, _, accumulation in _training_batches(config)),
    ("config.sampling.batch_size", config.sampling.batch_size, 1),
    ("config.evaluation.batch_size", config.evaluation.batch_size, 1),
  ]
  for name, size, accumulation in batches:
    if size // accumulation % batch_shards:
      what = f"each of its {accumulation} micro-batches" if accumulation > 1 else "it"
      raise ConfigError(
        f"{name} is {size}; {what} must split evenly over mesh data * fsdp = {batch_shards}"
        f" devices, as with {_next_multiple(size, accumulation * batch_shards)}."
      )
  model = config.model
  vocabulary = rounded_vocabulary(config.tokenizer.vocab_size)
  for name, size, axis, shards in (
    ("config.model.embed_dim", model.embed_dim, "fsdp", mesh.fsdp),
    ("config.model.heads", model.heads, "tensor", mesh.tensor),
    ("config.model.kv_heads", model.kv_heads, "tensor", mesh.tensor),
    ("config.model.mlp_dim", model.mlp_dim, "tensor", mesh.tensor),
    ("config.tokenizer.vocab_size (rounded up)", vocabulary, "tensor", mesh.tensor),
  ):
    if size % shards:
      raise ConfigError(
        f"{name} is {size}; it must split evenly over mesh {axis} = {shards} devices,"
        f" as with {_next_multiple(size, shards)}."
      )


def _next_multiple(size: int, divisor: int) -> int:
  return -(-size // divisor) * divisor


def _training_batches(config: Config) -> list[tuple[str, int, str, int]]:
  """Every batch of an update: its field, its size, the field and number of its micro-batches."""
  batches = [
    (f"{path}.batch_size", training.batch_size, f"{path}.accumulation", training.accumulation)
    for path, training in (
      ("config.supervised", config.supervised),
      ("config.reward.base", config.reward.base),
      ("config.reward.training", config.reward.training),
      ("config.policy.training", config.policy.training),
    )
  ]
  preferences = config.reward.preference_batch_size
  accumulation = config.reward.training.accumulation
  name = "config.reward.preference_batch_size"
  return [*batches, (name, preferences, "config.reward.training.accumulation", accumulation)]


def _check_model(config: Config) -> None:
  model, tokenizer = config.model, config.tokenizer
  if model.heads % model.kv_heads:
    raise ConfigError(
      f"config.model.kv_heads is {model.kv_heads}; it must divide config.model.heads, which is"
      f" {model.heads}."
    )
  if model.head_dim % 2:
    raise ConfigError(
      f"config.model.head_dim is {model.head_dim}; it must be even, as rotary positions turn pairs"
      " of features."
    )
  if not tokenizer.path and tokenizer.vocab_size < 259:
    raise ConfigError(
      f"config.tokenizer.vocab_size is {tokenizer.vocab_size}; it must be at least 259, as"
      " a byte-level BPE starts from the 256 bytes and its three special tokens."
    )


def _check_data(data: DataConfig, demonstrations_needed: bool) -> None:
  buckets = data.query_buckets
  ascending = all(shorter < longer for shorter, longer in itertools.pairwise(buckets))
  if not buckets or not ascending or buckets[-1] != data.query_length:
    raise ConfigError(
      f"config.data.query_buckets is {buckets}; it must ascend and end with"
      f" config.data.query_length, which is {data.query_length}."
    )
  if data.source != "files":
    return
  needed = {"preferences", "golden", "queries"}
  if demonstrations_needed:
    needed.add("demonstrations")
  for name in ("demonstrations", "preferences", "golden", "queries"):
    path = getattr(data, name)
    if not path and name in needed:
      because = " and config.supervised.epochs above 0" if name == "demonstrations" else ""
      raise ConfigError(
        f"config.data.{name} is ''; it must be the path of a JSONL file with config.data.source"
        f" 'files'{because}."
      )
    if path and not pathlib.Path(path).is_file():
      raise ConfigError(f"config.data.{name} is {path!r}; it must be a file that exists.")


def _check_training(config: Config) -> None:
  for name, size, accumulation_name, accumulation in _training_batches(config):
    if size % accumulation:
      raise ConfigError(
        f"{name} is {size}; it must be a multiple of {accumulation_name}, which is {accumulation}."
      )
  sampler, method = config.sampling.training, config.policy.method
  if method == "rjs":
    return
  if sampler.num_samples < 2:
    raise ConfigError(
      f"config.sampling.training.num_samples is {sampler.num_samples}; it must be at least 2 with"
      f" config.policy.method {method!r}, as one sample forms no pair."
    )
  if sampler.temperature == 0 or sampler.top_k == 1:
    field = "temperature" if sampler.temperature == 0 else "top_k"
    raise ConfigError(
      f"config.sampling.training.{field} is {getattr(sampler, field)}, which makes all samples of a"
      f" query equal; with config.policy.method {method!r} they must differ to form pairs."
    )


def _check_mesh_axes(mesh: MeshConfig) -> None:
  axes = dataclasses.asdict(mesh)
  free = [f"config.mesh.{name}" for name, size in axes.items() if size == -1]
  if len(free) > 1:
    raise ConfigError(f"{' and '.join(free)} are -1; at most one axis of the mesh may be.")
