"""The checks of a config: each field by itself, then against the others, the devices, the files."""

import dataclasses
import itertools
import os
import re

import ml_collections

from apo_jax.config.fields import ConfigError, read_fields
from apo_jax.config.reward_checks import check_reward
from apo_jax.config.schema import Config, DataConfig, MeshConfig, ShapeConfig


def from_config_dict(config: ml_collections.ConfigDict) -> Config:
  """Returns the validated view of `config`.

  Raises:
    ConfigError: for the first field that is unknown, missing, of a wrong type, out of its range,
      at odds with another field, or that names a file that is not there.
  """
  view = read_fields(Config, config, "config")
  if not view.policy.loss.reads_rewards:  # nothing would read what a reward step makes
    view = dataclasses.replace(view, reward=dataclasses.replace(view.reward, mode="fixed"))
  _check_model(view)
  _check_data(view.data, demonstrations_needed=view.supervised.epochs > 0)
  _check_lengths(view)
  _check_testing_reward(view)
  check_reward(view)
  _check_training(view)
  _check_policy_loss(view)
  _check_mesh_axes(view.mesh)
  if view.logging.wandb and not view.logging.wandb_project:
    raise ConfigError(
      "config.logging.wandb_project is ''; it must name a project while config.logging.wandb is"
      " True."
    )
  return view


def training_batches(config: Config) -> list[tuple[str, int, str, int]]:
  """Every batch of an update: its field, its size, the field and number of its micro-batches."""
  batches = [
    (f"{path}.batch_size", training.batch_size, f"{path}.accumulation", training.accumulation)
    for path, training in (
      ("config.supervised", config.supervised),
      ("config.reward.base", config.reward.base),
      ("config.reward.training", config.reward.training),
      ("config.policy.training", config.policy.training),
      ("config.testing_reward.training", config.testing_reward.training),
    )
    if training is not None
  ]
  preferences = config.reward.preference_batch_size
  accumulation = config.reward.training.accumulation
  name = "config.reward.preference_batch_size"
  return [*batches, (name, preferences, "config.reward.training.accumulation", accumulation)]


def _check_model(config: Config) -> None:
  model, tokenizer = config.model, config.tokenizer
  if not model.checkpoint:
    _check_random_start(config)
  if not model.checkpoint and not tokenizer.path and tokenizer.vocab_size < 259:
    raise ConfigError(
      f"config.tokenizer.vocab_size is {tokenizer.vocab_size}; it must be at least 259, as"
      " a byte-level BPE starts from the 256 bytes and its three special tokens."
    )
  for player, lora in (("policy", config.policy.lora), ("reward", config.reward.lora)):
    if lora.rank and not lora.modules:
      raise ConfigError(
        f"config.{player}.lora.modules is empty; name the projections that get an adapter, or set"
        f" config.{player}.lora.rank to 0."
      )
    if len(set(lora.modules)) < len(lora.modules):
      raise ConfigError(f"config.{player}.lora.modules is {lora.modules}; name each only once.")
  _check_frozen(config)
  _check_masters(config)


def _check_frozen(config: Config) -> None:
  """Another type of frozen weights asks for some that are frozen."""
  frozen_dtype = config.model.frozen_dtype
  if frozen_dtype != "float32" and not (config.policy.lora.rank or config.reward.lora.rank):
    raise ConfigError(
      f"config.model.frozen_dtype is {frozen_dtype!r}, but nothing is frozen, as"
      " config.policy.lora.rank and config.reward.lora.rank are 0; give one of them a rank, or"
      " leave the type 'float32'."
    )


def _check_masters(config: Config) -> None:
  """Another type of masters asks for a model that is trained whole."""
  judge = config.testing_reward
  has_masters = not (config.policy.lora.rank and config.reward.lora.rank) or judge.has_own_start
  if config.model.master_dtype != "float32" and not has_masters:
    raise ConfigError(
      f"config.model.master_dtype is {config.model.master_dtype!r}, but no model is trained whole:"
      " both players have adapters, which are float32; leave it 'float32' (frozen weights have"
      " config.model.frozen_dtype)."
    )


def _check_random_start(config: Config) -> None:
  """What holds where weights start at random."""
  shape = config.model.shape
  if shape is None:
    raise ConfigError(
      "config.model.checkpoint is '' and config.model.shape is missing; give a checkpoint, or the"
      " shape of a model with random weights."
    )
  _check_shape("config.model.shape", shape)
  for player, lora in (("policy", config.policy.lora), ("reward", config.reward.lora)):
    if lora.rank and not (player == "reward" and config.reward.checkpoint):
      raise ConfigError(
        f"config.{player}.lora.rank is {lora.rank}, but config.model.checkpoint is ''; adapters"
        " change a trained model, so name one, or set the rank to 0."
      )


def _check_shape(name: str, shape: ShapeConfig) -> None:
  if shape.heads % shape.kv_heads:
    raise ConfigError(
      f"{name}.kv_heads is {shape.kv_heads}; it must divide {name}.heads, which is {shape.heads}."
    )
  if shape.head_dim % 2:
    raise ConfigError(
      f"{name}.head_dim is {shape.head_dim}; it must be even, as rotary positions turn pairs of"
      " features."
    )


def _check_testing_reward(config: Config) -> None:
  own = config.testing_reward
  if own.shape is not None:
    _check_shape("config.testing_reward.shape", own.shape)
    if own.checkpoint:
      raise ConfigError(
        f"config.testing_reward.checkpoint is {own.checkpoint!r} beside"
        " config.testing_reward.shape; give one of them, as a checkpoint says its own shape."
      )
    if not config.supervised.epochs:
      raise ConfigError(
        "config.supervised.epochs is 0; it must be at least 1 with config.testing_reward.shape,"
        " whose random weights first learn the demonstrations."
      )
  brings_head = own.checkpoint or (config.reward.checkpoint and not own.has_own_start)
  if own.training is not None and not own.training.epochs and not brings_head:
    raise ConfigError(
      "config.testing_reward.training.epochs is 0; it must be at least 1 where no checkpoint of a"
      " sequence classifier is named, as the judge's head starts at random."
    )


def _check_data(data: DataConfig, demonstrations_needed: bool) -> None:
  _check_ascending("query_buckets", data.query_buckets)
  _check_ascending("row_buckets", data.row_buckets)
  if not data.query_buckets or data.query_buckets[-1] != data.query_length:
    raise ConfigError(
      f"config.data.query_buckets is {data.query_buckets}; it must ascend and end with"
      f" config.data.query_length, which is {data.query_length}."
    )
  names = ("demonstrations", "preferences", "golden", "queries")
  if data.source == "embedded":
    for name in (*names, "test"):
      if not getattr(data, f"num_{name}"):
        raise ConfigError(
          f"config.data.num_{name} is 0; it must be at least 1 with config.data.source 'embedded'."
        )
    return
  for name in names:
    path = getattr(data, name)
    if not path and (name != "demonstrations" or demonstrations_needed):
      because = " and config.supervised.epochs above 0" if name == "demonstrations" else ""
      raise ConfigError(
        f"config.data.{name} is ''; it must be a path or URI with config.data.source"
        f" 'files'{because}."
      )
    derived = (name, path) in (("golden", "chosen"), ("queries", "preferences"))
    # What a glob or "?split=" means is found where rows are read.
    is_plain = "://" not in path and not re.search(r"[*?[]", path)
    if path and not derived and is_plain and not os.path.exists(path):
      raise ConfigError(f"config.data.{name} is {path!r}; it must be a file that exists, or a URI.")


def _check_lengths(config: Config) -> None:
  """A golden response must have the room that a sample has, behind the same query."""
  data, tokens = config.data, config.sampling.training.max_new_tokens
  needed = data.query_length + tokens + 1
  if needed > data.row_length:
    raise ConfigError(
      f"config.data.row_length is {data.row_length}; it must be at least {needed}, for a query of"
      f" config.data.query_length, {data.query_length}, a sample of"
      f" config.sampling.training.max_new_tokens, {tokens}, and its end."
    )


def _check_ascending(name: str, buckets: tuple[int, ...]) -> None:
  if not all(shorter < longer for shorter, longer in itertools.pairwise(buckets)):
    raise ConfigError(f"config.data.{name} is {buckets}; its lengths must ascend.")


def _check_training(config: Config) -> None:
  for name, size, accumulation_name, accumulation in training_batches(config):
    if size % accumulation:
      raise ConfigError(
        f"{name} is {size}; it must be a multiple of {accumulation_name}, which is {accumulation}."
      )


def _check_policy_loss(config: Config) -> None:
  """What the policy's loss needs of the sampler, of its reference and of its batches."""
  policy, sampler, loss = config.policy, config.sampling.training, config.policy.loss
  if loss.reference == "round_start":
    wanted = {"reference": "round_start", "start": "previous"}
    for field, value in wanted.items():
      if getattr(policy, field) != value:
        raise ConfigError(
          f"config.policy.{field} is {getattr(policy, field)!r}; it must be {value!r} with"
          f" config.policy.loss {loss.name!r}, whose reference is the policy that drew the samples."
        )
  accumulation = policy.training.accumulation
  if loss.whole_batch and accumulation > 1:
    raise ConfigError(
      f"config.policy.training.accumulation is {accumulation}; it must be 1 with"
      f" config.policy.loss {loss.name!r}, which takes a mean over the whole batch that"
      " micro-batches do not see."
    )
  for shaping in policy.shapings:
    unseen = None
    if shaping.shifts_queries and not loss.across_queries:
      unseen = (
        "adds one number to all rewards of a query, which the loss reads within a query alone"
      )
    elif shaping.keeps_order and loss.order_only:
      unseen = "keeps the order of a query's rewards, of which the loss reads nothing else"
    if unseen:
      raise ConfigError(
        f"config.policy.shapings has {shaping.name!r} with config.policy.loss {loss.name!r}, which"
        f" it would not change: it {unseen}; leave it out, or take a loss that sees it"
        " (docs/losses.md)."
      )
  if loss.reads_earlier_policy and config.checkpoints.keep < 2:
    raise ConfigError(
      f"config.checkpoints.keep is {config.checkpoints.keep}; it must be at least 2 with"
      f" config.policy.loss {loss.name!r}, which reads the policy of the round before the last."
    )
  if not loss.compares:
    return
  if sampler.num_samples < 2:
    raise ConfigError(
      f"config.sampling.training.num_samples is {sampler.num_samples}; it must be at least 2 with"
      f" config.policy.loss {loss.name!r}, as one sample forms no pair."
    )
  if sampler.temperature == 0 or sampler.top_k == 1:
    field = "temperature" if sampler.temperature == 0 else "top_k"
    raise ConfigError(
      f"config.sampling.training.{field} is {getattr(sampler, field)}, which makes all samples of a"
      f" query equal; with config.policy.loss {loss.name!r} they must differ to form pairs."
    )
  left = sampler.num_samples
  for selection in policy.selections:
    left = selection.most(left)
    if left < 2:
      raise ConfigError(
        f"config.policy.selections leaves {left} sample of a query by {selection.name!r}; it must"
        f" leave at least 2 with config.policy.loss {loss.name!r}, as one sample forms no pair."
      )


def _check_mesh_axes(mesh: MeshConfig) -> None:
  axes = dataclasses.asdict(mesh)
  free = [f"config.mesh.{name}" for name, size in axes.items() if size == -1]
  if len(free) > 1:
    raise ConfigError(f"{' and '.join(free)} are -1; at most one axis of the mesh may be.")
