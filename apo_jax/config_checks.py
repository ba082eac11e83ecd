"""The checks of a config: each field by itself, then against the others, the devices, the files."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Mapping

import ml_collections

from apo_jax.config import Config, DataConfig, MeshConfig
from apo_jax.config_fields import ConfigError, read_fields
from apo_jax.models.architecture import FUSED_ATTENTION, Architecture


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


def resolve_mesh(config: Config, num_devices: int, slices: int = 1) -> MeshConfig:
  """Returns the mesh of `config` with its -1, if any, filled so that all devices are used.

  Raises:
    ConfigError: if no mesh of this shape holds exactly `num_devices` devices, or if its `data` axis
      does not split evenly over `slices`, the TPU slices that hold them.
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
  mesh = MeshConfig(**{name: num_devices // given if name in free else axes[name] for name in axes})
  if mesh.data % slices:
    raise ConfigError(
      f"config.mesh.data is {mesh.data}; it must be a multiple of the {slices} TPU slices there"
      " are, as weights (fsdp and tensor) are split within a slice."
    )
  return mesh


def check_mesh(config: Config, architectures: Mapping[str, Architecture], mesh: MeshConfig) -> None:
  """Checks that every sharded dimension splits evenly over `mesh`, as `resolve_mesh` gave it.

  `architectures` are the players' by the config field that gave them, such as "config.model".

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
  for source, architecture in architectures.items():
    for name, axis, shards in (
      ("embed_dim", "fsdp", mesh.fsdp),
      ("heads", "tensor", mesh.tensor),
      ("kv_heads", "tensor", mesh.tensor),
      ("mlp_dim", "tensor", mesh.tensor),
      ("vocab_rows", "tensor", mesh.tensor),
    ):
      size = getattr(architecture, name)
      if size % shards:
        raise ConfigError(
          f"{source} has {name} = {size}; it must split evenly over mesh {axis} = {shards} devices,"
          f" as with {_next_multiple(size, shards)}."
        )


def check_attention(config: Config, platform: str) -> None:
  """Checks that devices of this platform ("tpu", "gpu", "cpu") have the attention asked for.

  Raises:
    ConfigError: they do not.
  """
  asked, own = config.model.attention, FUSED_ATTENTION.get(platform)
  if asked not in ("auto", "xla", own):
    runs_on = {name: other for other, name in FUSED_ATTENTION.items()}[asked].upper()
    known = "'auto' or 'xla'" if own is None else f"'auto', 'xla' or {own!r}"
    raise ConfigError(
      f"config.model.attention is {asked!r}, which runs on a {runs_on}; these devices are"
      f" {platform.upper()}s, so it must be {known}."
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


def _check_random_start(config: Config) -> None:
  """What holds where weights start at random."""
  shape = config.model.shape
  if shape is None:
    raise ConfigError(
      "config.model.checkpoint is '' and config.model.shape is missing; give a checkpoint, or the"
      " shape of a model with random weights."
    )
  if shape.heads % shape.kv_heads:
    raise ConfigError(
      f"config.model.shape.kv_heads is {shape.kv_heads}; it must divide config.model.shape.heads,"
      f" which is {shape.heads}."
    )
  if shape.head_dim % 2:
    raise ConfigError(
      f"config.model.shape.head_dim is {shape.head_dim}; it must be even, as rotary positions turn"
      " pairs of features."
    )
  for player, lora in (("policy", config.policy.lora), ("reward", config.reward.lora)):
    if lora.rank and not (player == "reward" and config.reward.checkpoint):
      raise ConfigError(
        f"config.{player}.lora.rank is {lora.rank}, but config.model.checkpoint is ''; adapters"
        " change a trained model, so name one, or set the rank to 0."
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
    if path and not derived and "://" not in path and not pathlib.Path(path).exists():
      raise ConfigError(f"config.data.{name} is {path!r}; it must be a file that exists, or a URI.")


def _check_ascending(name: str, buckets: tuple[int, ...]) -> None:
  if not all(shorter < longer for shorter, longer in itertools.pairwise(buckets)):
    raise ConfigError(f"config.data.{name} is {buckets}; its lengths must ascend.")


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
