"""The typed, frozen view of a run's config.

A config file builds an `ml_collections.ConfigDict`, which flags may override; `from_config_dict`
(config_checks.py) turns it into a `Config` or fails with one sentence that names the field. There
are no defaults: what a run does is read in its config file.
"""

import dataclasses
from typing import Any, Literal

import ml_collections

from apo_jax.config.fields import (
  AtLeastTwo,
  Decay,
  MeshAxis,
  NonEmptyText,
  NonNegativeFloat,
  NonNegativeInt,
  PositiveFloat,
  PositiveInt,
  Probability,
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
class ShapeConfig:
  """A decoder of the Llama family, for weights that start at random."""

  layers: PositiveInt
  embed_dim: PositiveInt
  heads: PositiveInt
  kv_heads: PositiveInt  # divides heads
  head_dim: PositiveInt  # even: rotary positions turn pairs of features
  mlp_dim: PositiveInt
  rope_theta: PositiveFloat
  norm_epsilon: PositiveFloat
  tied_embeddings: bool  # the output projection is the embedding's transpose


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """What both players start from, and how it is computed. Masters are float32."""

  checkpoint: str  # directory or hub name with safetensors; "" starts at random, with `shape`
  shape: ShapeConfig | None  # left out where a checkpoint says it
  remat: Literal["none", "dots", "full"]  # what the backward pass computes again
  compute_dtype: Literal["float32", "bfloat16"]
  # How whole rows are attended over, in training, scoring and reading of queries: products that XLA
  # compiles, or a fused kernel, cudnn on GPUs and splash on TPUs, where it can do what the model
  # needs (models/attention_kernels.py). "auto" is by platform.
  attention: Literal["auto", "xla", "cudnn", "splash"]


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """Low-rank adapters (arXiv 2106.09685) in place of training every weight of a checkpoint."""

  rank: NonNegativeInt  # 0 is off: every weight is trained
  alpha: PositiveFloat  # the adapters' output is scaled by alpha / rank
  dropout: Decay  # of the adapters' input, in training
  modules: tuple[  # the projections that get one
    Literal["query", "key", "value", "output", "gate", "up", "down"], ...
  ]


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
  """Where the tokenizer comes from."""

  # A directory or hub name; "" takes the model checkpoint's own, or where there is no checkpoint
  # trains a byte-level BPE on the run's data.
  path: str
  vocab_size: PositiveInt  # entries of random weights, special tokens included


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """The game's data and the fixed lengths it is brought to."""

  source: Literal["embedded", "files"]
  # Sizes, per split where a split has them: of the embedded data, or the most taken from files,
  # where 0 takes all.
  num_demonstrations: NonNegativeInt
  num_preferences: NonNegativeInt
  num_golden: NonNegativeInt
  num_queries: NonNegativeInt
  num_test: NonNegativeInt
  # Paths or URIs for source="files" (data/locations.py), "" where absent.
  demonstrations: str
  preferences: str
  golden: str  # "chosen" takes the best responses of the preferences
  queries: str  # "preferences" takes the queries of the preferences
  on_bad_row: Literal["skip", "error"]  # a row that cannot be used is counted, or ends the run
  chat_template: str  # "" the tokenizer's own or else "hh"; "hh"; a Jinja file, or its text
  query_length: PositiveInt  # tokens with all that the template adds; longer ones lose their left
  query_buckets: tuple[PositiveInt, ...]  # padded lengths, ascending, the last is query_length
  response_length: AtLeastTwo  # tokens with eos; longer responses lose their right
  row_buckets: tuple[PositiveInt, ...]  # padded lengths, ascending, of rows below the longest
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

  # A sequence-classification checkpoint of the same tokenizer; "" starts from the policy's trunk
  # after its supervised start, or with adapters from the model's checkpoint itself.
  checkpoint: str
  lora: LoraConfig
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

  lora: LoraConfig
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
  cache_dtype: Literal["float32", "bfloat16"]  # of cached keys and values
  # Every device has whole weights while it samples, split along mesh.tensor alone. Else a mesh with
  # fsdp gathers each layer's at every token, which takes less memory and much more time.
  gather_weights: bool


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
class MemoryConfig:
  """What lies where while it is not computed with."""

  # Parameters of the player whose turn it is not wait in the host's memory, so that two players fit
  # where one does; each change of turns copies them.
  park_idle_player: bool


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
  memory: MemoryConfig
  checkpoints: CheckpointConfig
  logging: LoggingConfig


def to_dict(config: Config) -> dict[str, Any]:
  """Returns the nested dict of `config` with lists for tuples, as JSON has them.

  `from_config_dict(ml_collections.ConfigDict(to_dict(config)))` is `config` again.
  """
  return _with_lists(dataclasses.asdict(config))


def _with_lists(value: Any) -> Any:
  if isinstance(value, dict):
    return {name: _with_lists(item) for name, item in value.items()}
  return list(value) if isinstance(value, tuple) else value
