"""The base of every config: each field with what it may hold, what it means and its default.

`base.base_config` makes an `ml_collections.ConfigDict` of it; a config file changes the fields in
which its experiment differs, flags may override any; `checks.from_config_dict` turns the result
into a `Config` or fails with one sentence that names the field.

A field whose type is a kind of `Choice` holds a name in a config, as `policy.loss = "dpo"`, and
beside it stands a section for every choice of that kind, as `policy.dpo.beta`.
"""

import dataclasses
from typing import Literal

from apo_jax.evaluation.judged_round import Evaluation
from apo_jax.objectives import (
  APO,
  DPO,
  FixedWeights,
  PolicyLoss,
  RewardTerm,
  Selection,
  Shaping,
  Weighting,
)
from apo_jax.objectives.likelihood import OverTokens
from apo_jax.objectives.ranges import (
  BatchSize,
  Bins,
  Decay,
  Epochs,
  Layers,
  MeshAxis,
  NonEmptyText,
  NonNegativeFloat,
  NonNegativeInt,
  PositiveFloat,
  PositiveInt,
  Probability,
  Rank,
  Rounds,
  Samples,
  Seed,
  Share,
  Tokens,
  Width,
)


@dataclasses.dataclass(frozen=True)
class ShapeConfig:
  """A decoder of the Llama family, for weights that start at random."""

  layers: Layers
  embed_dim: Width  # features
  heads: Width  # of queries
  kv_heads: Width  # of keys and values, shared by groups of query heads; divides heads
  head_dim: Width  # features a head; even: rotary positions turn pairs of features
  mlp_dim: Width  # features
  rope_theta: PositiveFloat = 10000.0  # base of the rotary wavelengths
  norm_epsilon: PositiveFloat = 1e-5
  tied_embeddings: bool = True  # the output projection is the embedding's transpose


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """What both players start from, and how it is computed. Adapters are float32."""

  checkpoint: str = ""  # directory or hub name with safetensors; "" starts at random, with `shape`
  shape: ShapeConfig | None = None  # left out where a checkpoint says it
  remat: Literal["none", "dots", "full"] = "full"  # what the backward pass computes again
  compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
  # Of weights that are trained whole, norms' scales apart; bfloat16 is rounded up or down at random
  # (docs/memory.md).
  master_dtype: Literal["float32", "bfloat16"] = "float32"
  # How weights are kept that stay frozen beside adapters (docs/memory.md).
  frozen_dtype: Literal["float32", "bfloat16", "int8", "nf4"] = "float32"
  # How whole rows are attended over, in training, scoring and reading of queries: products that XLA
  # compiles, or a fused kernel, cudnn on GPUs and splash on TPUs, where it can do what the model
  # needs (models/attention_kernels.py). "auto" is by platform.
  attention: Literal["auto", "xla", "cudnn", "splash"] = "auto"


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """Low-rank adapters (arXiv 2106.09685) in place of training every weight of a checkpoint."""

  rank: Rank = 0  # 0 is off: every weight is trained
  alpha: PositiveFloat = 16.0  # the adapters' output is scaled by alpha / rank
  dropout: Decay = 0.0  # of the adapters' input, in training
  modules: tuple[  # the projections that get one
    Literal["query", "key", "value", "output", "gate", "up", "down"], ...
  ] = ("query", "key", "value", "output", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
  """Where the tokenizer comes from."""

  # A directory or hub name; "" takes the model checkpoint's own, or where there is no checkpoint
  # trains a byte-level BPE on the run's data.
  path: str = ""
  vocab_size: Tokens = 32000  # entries of random weights, special tokens included


@dataclasses.dataclass(frozen=True)
class EmbeddedConfig:
  """What the preferences of the embedded data know."""

  # Whether they show responses that are cut off or repeat themselves, as most failures of a policy
  # after its supervised start are; else a reward model learns of these from samples alone.
  covers_failures: bool = False
  # How surely labels follow the true utility u: the first response is preferred with probability
  # sigmoid(label_sharpness * (u_first - u_second)), so 0 is a coin flip.
  label_sharpness: NonNegativeFloat = 8.0


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """The game's data and the fixed lengths it is brought to."""

  source: Literal["embedded", "files"] = "files"
  # Sizes, per split where a split has them: of the embedded data, or the most taken from files,
  # where 0 takes all.
  num_demonstrations: NonNegativeInt = 0  # query-response pairs of the supervised start
  num_preferences: NonNegativeInt = 0
  num_golden: NonNegativeInt = 0  # golden responses of the reward split
  num_queries: NonNegativeInt = 0  # queries of the policy split
  num_test: NonNegativeInt = 0  # queries of the test split
  embedded: EmbeddedConfig = EmbeddedConfig()  # for source="embedded"
  # Paths or URIs for source="files" (docs/locations.md), "" where absent.
  demonstrations: str = ""
  preferences: str = ""
  # "chosen" takes the best responses of the preferences; of the embedded data too, on the reward
  # model's side.
  golden: str = ""
  queries: str = ""  # "preferences" takes the queries of the preferences
  # The column of the preferences that names the subset of each, for reward.weighting="min_norm",
  # which weighs them one by one; of embedded data "family"; "" tells none apart.
  subset_column: str = ""
  on_bad_row: Literal["skip", "error"] = "skip"  # a row that cannot be used is counted, or the end
  chat_template: str = ""  # "" the tokenizer's own or else "hh"; "hh"; a Jinja file, or its text
  # Tokens with all that the template adds; longer queries lose their left.
  query_length: Tokens = 255
  query_buckets: tuple[Tokens, ...] = (255,)  # padded lengths, ascending, to query_length
  # Tokens of a query, a response and eos. No response is cut: a long one takes the left of its
  # query, and one that is too long alone is left out. Rows of the test side may be longer, as long
  # as a sample of an evaluation.
  row_length: Tokens = 512
  row_buckets: tuple[Tokens, ...] = ()  # padded lengths, ascending, of rows below the longest
  separator: str = ""  # "" for none, else the text of the token between query and response


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """One optimisation: AdamW over some epochs of its data."""

  epochs: Epochs = 1  # passes over the data
  batch_size: BatchSize = 64  # items an update
  accumulation: BatchSize = 1  # micro-batches an update; more where memory is short
  learning_rate: PositiveFloat = 1e-6  # at its peak
  schedule: Literal["constant", "cosine"] = "cosine"  # after the warm-up
  warmup_steps: NonNegativeInt = 100  # updates
  weight_decay: NonNegativeFloat = 0.0
  clip_norm: PositiveFloat = 1.0  # largest global norm of the gradient
  beta1: Decay = 0.9  # Adam's decay of the mean
  beta2: Decay = 0.95  # Adam's decay of the square
  mean_dtype: Literal["float32", "bfloat16"] = "float32"  # of Adam's mean; its square is float32


@dataclasses.dataclass(frozen=True)
class SupervisedConfig(TrainingConfig):
  """The supervised start: maximum likelihood of the demonstrations."""

  # Its loss is a mean over all tokens of a batch; or "sum", each response's, a mean over responses.
  over_tokens: OverTokens = "mean"


@dataclasses.dataclass(frozen=True)
class RewardConfig:
  """The min player: the reward model and its step in a round."""

  # A sequence-classification checkpoint of the same tokenizer; "" starts from the policy's trunk
  # after its supervised start, or with adapters from the model's checkpoint itself.
  checkpoint: str = ""
  lora: LoraConfig = LoraConfig()
  # What a round's step learns from: golden responses against samples beside the preferences,
  # preferences alone, or nothing.
  mode: Literal["adversarial", "preferences_only", "fixed"] = "adversarial"
  # What the adversarial term sets above what: golden responses above the round's samples; or above
  # those of the initial policy, as model.checkpoint is before its supervised start, drawn once; or
  # a sample of the supervised start above those (arXiv 2405.15624; docs/methods_reward.md).
  contrast: Literal["golden_vs_sample", "golden_vs_initial", "supervised_vs_initial"] = (
    "golden_vs_sample"
  )
  start: Literal["base", "previous"] = "previous"  # what a round starts from
  pooling: Literal["last", "eos", "average", "max"] = "last"  # what the head reads
  apo: APO = APO()  # the loss
  weighting: Weighting = FixedWeights()  # of its two terms: by apo's coefficients, or another rule
  terms: tuple[RewardTerm, ...] = ()  # further terms, wherever a reward model is trained
  preference_batch_size: BatchSize = 64  # preferences an update, beside golden queries
  base: TrainingConfig = TrainingConfig()  # on preferences alone, before the first round
  training: TrainingConfig = TrainingConfig()  # a round's reward step

  @property
  def reads_round_samples(self) -> bool:
    """Whether a round's step learns from what the round's policy answers to golden queries."""
    return self.mode == "adversarial" and self.contrast == "golden_vs_sample"

  @property
  def reads_initial_samples(self) -> bool:
    """Whether it learns from what the initial policy answers to them."""
    return self.mode == "adversarial" and self.contrast != "golden_vs_sample"

  @property
  def reads_supervised_samples(self) -> bool:
    """Whether it learns from what the supervised start answers to them."""
    return self.mode == "adversarial" and self.contrast == "supervised_vs_initial"

  @property
  def needs_language_head(self) -> bool:
    """Whether a term of the loss reads log-probabilities of the reward model's decoder."""
    return any(term.needs_logprobs for term in self.terms)


@dataclasses.dataclass(frozen=True)
class TestingRewardConfig:
  """The judge: a reward model that no policy is trained on. `reward.pooling` is its pooling too.

  The more it has in common with the game's reward model, the more it is fooled by the same tricks.
  Where it starts from weights of its own, all of them are trained; else `reward.lora` applies.
  """

  checkpoint: str = ""  # a sequence-classification checkpoint of the same tokenizer; "" see shape
  # Random weights of its own, which first learn the demonstrations as `supervised` says. Without
  # a shape and a checkpoint it starts from what the game's reward model starts from.
  shape: ShapeConfig | None = None
  # Those of both sides, or of the policy side alone, which the game's reward model never sees.
  preferences: Literal["all", "policy"] = "all"
  training: TrainingConfig | None = None  # left out where it is trained as reward.base says

  @property
  def has_own_start(self) -> bool:
    """Whether it starts elsewhere than the game's reward model."""
    return bool(self.checkpoint) or self.shape is not None


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
  """The max player: the policy and its step in a round."""

  lora: LoraConfig = LoraConfig()
  # With one that reads no rewards reward.mode is "fixed", whatever is given.
  loss: PolicyLoss = DPO()
  shapings: tuple[Shaping, ...] = ()  # of the rewards that it learns from, in this order
  # Which samples it may learn from, of those that are left, in this order.
  selections: tuple[Selection, ...] = ()
  # Of the queries that earlier rounds' policies answered, the share that it learns from again, with
  # the answers and this round's rewards and reference: the last round's, the one's before, ...
  replay: tuple[Share, ...] = ()
  # What becomes of samples that ran into the limit: left out where no finished one of the query is
  # better, so that they are never the best; treated as any other; or all left out.
  unfinished: Literal["never_best", "as_is", "drop"] = "never_best"
  start: Literal["base", "previous"] = "previous"  # what a round starts from
  reference: Literal["round_start", "initial"] = "round_start"  # the policy of the KL
  training: TrainingConfig = TrainingConfig()  # a round's policy step

  @property
  def reads_baselines(self) -> bool:
    """Whether a shaping reads answers of the supervised start."""
    return any(shaping.reads_baselines for shaping in self.shapings)

  @property
  def reads_embeddings(self) -> bool:
    """Whether a shaping reads embeddings of the reward model."""
    return any(shaping.reads_embeddings for shaping in self.shapings)


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
  """How responses are drawn."""

  num_samples: Samples = 1  # responses a query
  temperature: NonNegativeFloat = 1.0  # 0 is greedy
  top_k: NonNegativeInt = 0  # 0 is off
  top_p: Probability = 1.0  # 1 is off
  repetition_penalty: PositiveFloat = 1.0  # 1 is off
  max_new_tokens: Tokens = 256
  stop: tuple[NonEmptyText, ...] = ()  # a response ends before the first of these, stripped


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
  """The samplers of training and of evaluation."""

  training: SamplerConfig = SamplerConfig(num_samples=4)
  evaluation: SamplerConfig = SamplerConfig()
  # Answers of the supervised start to each query of the policy step, drawn once a game as training
  # samples are, where a shaping reads them.
  baselines: Samples = 5
  batch_size: BatchSize = 64  # queries a sampler call
  cache_dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of cached keys and values
  # Every device has whole weights while it samples, split along mesh.tensor alone. Else a mesh with
  # fsdp gathers each layer's at every token, which takes less memory and much more time.
  gather_weights: bool = True


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """The judgement after each round."""

  num_queries: PositiveInt = 1024  # at most so many test queries, and as many test preferences
  batch_size: BatchSize = 64  # sequences a scoring call
  calibration_bins: Bins = 10  # uniform bins of confidence
  evaluations: tuple[Evaluation, ...] = ()  # beside those that every round has


@dataclasses.dataclass(frozen=True)
class HealthConfig:
  """From where on a run is warned of; no threshold ever stops or changes it.

  1 silences a share that must not be above its threshold, 0 one that must not be below.
  """

  # The least mean of sigmoid(-margin) over pairs of golden response and sample. It begins at 0.5;
  # at 0.01 a step of the golden term is a fiftieth of the first.
  golden_gradient: Share = 0.01
  # The largest rank correlation of reward and length among a query's samples, to either side. At
  # 0.7 length explains half of the variance of the ranks.
  length_correlation: Share = 0.7
  # The largest share of pairs of golden response and sample that differ in length and are ordered
  # as by length. Quality that goes with length gives high shares too, one near 1 is hardly chance.
  length_agreement: Share = 0.95
  # Standard errors by which the accuracy on test preferences may fall below the base's: 2 are
  # passed by chance in a fortieth of healthy rounds.
  forgetting: NonNegativeFloat = 2.0
  # Nats a response from the start. The best of 4 samples is 0.6 away from the policy they are of
  # (log S - (S - 1) / S), so 20 is far more than some rounds of choosing give.
  kl: NonNegativeFloat = 20.0
  # The largest factor by which that may grow in a round, from 1 nat on. It grows with the square of
  # equal steps that add up, so fourfold from the first round to the second.
  kl_growth: PositiveFloat = 5.0
  empty: Share = 0.05  # the largest share of samples: a preference pair has no use for these
  unfinished: Share = 0.2  # the largest share of samples: a fifth of the sampler's work is lost
  repetition: Share = 0.1  # runs of four words that a response had before: people's texts have few
  distinct: Share = (
    0.5  # the least share of a query's samples: with fewer than half, few pairs form
  )
  clipped: Share = 0.5  # the largest share of updates whose gradient is longer than clip_norm


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each mesh axis; at most one axis is -1, which takes what is left."""

  data: MeshAxis = -1  # split the batch
  fsdp: MeshAxis = 1  # split the batch and the weights
  tensor: MeshAxis = 1  # split heads, MLP and vocabulary


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
  """What lies where while it is not computed with."""

  # Parameters of the player whose turn it is not wait in the host's memory, so that two players fit
  # where one does; each change of turns copies them.
  park_idle_player: bool = False


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  """When training states are saved, and how many stay."""

  every_steps: PositiveInt = 100  # updates
  keep: PositiveInt = 2  # newest checkpoints that stay


@dataclasses.dataclass(frozen=True)
class LoggingConfig:
  """Where metrics go beside metrics.jsonl."""

  every_steps: PositiveInt = 10  # updates
  tensorboard: bool = False
  wandb: bool = False
  wandb_project: str = "apo_jax"


@dataclasses.dataclass(frozen=True)
class Config:
  """A whole run."""

  seed: Seed = 0
  rounds: Rounds = 3  # of the game after the supervised start; 0 stops there
  model: ModelConfig = ModelConfig()
  tokenizer: TokenizerConfig = TokenizerConfig()
  data: DataConfig = DataConfig()
  supervised: SupervisedConfig = SupervisedConfig()
  reward: RewardConfig = RewardConfig()
  testing_reward: TestingRewardConfig = TestingRewardConfig()
  policy: PolicyConfig = PolicyConfig()
  sampling: SamplingConfig = SamplingConfig()
  evaluation: EvaluationConfig = EvaluationConfig()
  health: HealthConfig = HealthConfig()
  mesh: MeshConfig = MeshConfig()
  memory: MemoryConfig = MemoryConfig()
  checkpoints: CheckpointConfig = CheckpointConfig()
  logging: LoggingConfig = LoggingConfig()
