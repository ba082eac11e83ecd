"""The optimizer of a training phase, and the state that its updates carry."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from apo_jax.config.schema import TrainingConfig
from apo_jax.models.definition import Definition, Parameters


class TrainState(NamedTuple):
  """All that an update reads and writes; `step` counts the updates made.

  `parameters` are the trained ones: with adapters, these and the reward head alone.
  """

  step: Int[Array, ""]
  parameters: Parameters
  optimizer_state: optax.OptState


def make_schedule(config: TrainingConfig, total_steps: int) -> optax.Schedule:
  """Linear warm-up, then constant, or a cosine to 0 at `total_steps`.

  The first update has 1 / warmup_steps of the rate. A warm-up longer than the phase is cut to it.
  """
  warmup = min(config.warmup_steps, total_steps)
  if config.schedule == "cosine":
    after = optax.cosine_decay_schedule(config.learning_rate, max(total_steps - warmup, 1))
  else:
    after = optax.constant_schedule(config.learning_rate)
  if warmup == 0:
    return after
  rise = optax.linear_schedule(config.learning_rate / warmup, config.learning_rate, warmup - 1)
  return optax.join_schedules([rise, after], [warmup])


def make_optimizer(config: TrainingConfig, total_steps: int) -> optax.GradientTransformation:
  """AdamW behind clipping by global norm. Weight decay spares scales and biases.

  It computes in float32 and keeps the mean as `config.mean_dtype`, whatever type parameters and
  gradients have. The square stays float32: with a `beta2` near 1 it changes by less than bfloat16
  can say.
  """

  def decayed(parameters: Parameters) -> Any:
    def is_weight(path: tuple[Any, ...], _: jax.Array) -> bool:
      return not path[-1].key.endswith(("norm", "bias"))

    return jax.tree_util.tree_map_with_path(is_weight, parameters)

  adamw = optax.adamw(
    make_schedule(config, total_steps),
    b1=config.beta1,
    b2=config.beta2,
    mu_dtype=config.mean_dtype,
    weight_decay=config.weight_decay,
    mask=decayed,
  )
  return optax.chain(clip_by_global_norm(config.clip_norm), in_float32(adamw))


def in_float32(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """The optimizer for parameters and gradients of any type, as if they were float32."""

  def widened(tree: Any) -> Any:  # optax also asks with placeholders
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)

  def init(parameters: Any) -> optax.OptState:
    return optimizer.init(widened(parameters))

  def update(
    gradients: Parameters, state: optax.OptState, parameters: Parameters
  ) -> tuple[Parameters, optax.OptState]:
    return optimizer.update(widened(gradients), state, widened(parameters))

  return optax.GradientTransformation(init, update)


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
  """Scales all gradients so that their common norm is at most `limit`.

  optax's own divides each gradient, which compilers do once and keep: a second copy of all of them.
  A product with one factor is done wherever the gradients are read.

  Args:
    limit: the norm over all leaves (arXiv 1211.5063, algorithm 1).
  """

  def scale(gradients: Parameters, parameters: Parameters | None) -> Parameters:
    del parameters
    factor = limit / jnp.maximum(optax.tree.norm(gradients), limit)
    return jax.tree.map(lambda gradient: gradient * factor.astype(gradient.dtype), gradients)

  return optax.stateless(scale)


@functools.lru_cache(maxsize=8)  # traced once, not in every round
def abstract_state(definition: Definition, optimizer: optax.GradientTransformation) -> TrainState:
  """Shapes, types and shardings of a training state: moments lie where their parameters lie."""
  mesh = jax.tree.leaves(definition.shardings)[0].mesh
  replicated = NamedSharding(mesh, PartitionSpec())

  def place(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  optimizer_state = optax.tree_map_params(
    optimizer,
    place,
    jax.eval_shape(optimizer.init, definition.trained),
    jax.tree.map(lambda leaf: leaf.sharding, definition.trained),
    transform_non_params=lambda leaf: place(leaf, replicated),
  )
  step = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated)
  return TrainState(step, definition.trained, optimizer_state)


def init_state(
  definition: Definition, optimizer: optax.GradientTransformation, parameters: Parameters
) -> TrainState:
  """The state before the first update, from the trained parameters.

  They are copied: a step donates its state, and whoever gave them may still need them.
  """

  return _state_maker(definition, optimizer)(parameters)


@functools.lru_cache(maxsize=8)  # every round makes such a state
def _state_maker(
  definition: Definition, optimizer: optax.GradientTransformation
) -> Callable[[Parameters], TrainState]:
  def create(parameters: Parameters) -> TrainState:
    copied = jax.tree.map(jnp.copy, parameters)
    return TrainState(jnp.zeros((), jnp.int32), copied, optimizer.init(parameters))

  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(definition, optimizer))
  return jax.jit(create, in_shardings=(shardings.parameters,), out_shardings=shardings)
