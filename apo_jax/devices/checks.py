"""What of a config depends on the devices: its mesh, and the attention that they have."""

import dataclasses
import math
from collections.abc import Mapping

from apo_jax.config.checks import training_batches
from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config, MeshConfig
from apo_jax.devices.platforms import FUSED_ATTENTION


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


def check_mesh(config: Config, sizes: Mapping[str, Mapping[str, int]], mesh: MeshConfig) -> None:
  """Checks that every sharded dimension splits evenly over `mesh`, as `resolve_mesh` gave it.

  `sizes` are those of the players' models that are split (`Architecture.split_sizes`), by the
  config field that gave them, such as "config.model".

  Batches are split over data * fsdp, weights over fsdp (embed_dim) and tensor (the others).

  Raises:
    ConfigError: for the first dimension that does not, with the next size that would.
  """
  if min(mesh.data, mesh.fsdp, mesh.tensor) < 1:
    raise ConfigError(f"config.mesh is {mesh}; its -1 must be filled by resolve_mesh first.")
  batch_shards = mesh.data * mesh.fsdp
  batches = [
    *((name, size, accumulation) for name, size, _, accumulation in training_batches(config)),
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
  for source, dimensions in sizes.items():
    for name, axis, shards in (
      ("embed_dim", "fsdp", mesh.fsdp),
      ("heads", "tensor", mesh.tensor),
      ("kv_heads", "tensor", mesh.tensor),
      ("mlp_dim", "tensor", mesh.tensor),
      ("vocab_rows", "tensor", mesh.tensor),
    ):
      size = dimensions[name]
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
