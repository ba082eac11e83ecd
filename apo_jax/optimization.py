"""What both players' steps share: the optimizer, the training state, accumulated gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from apo_jax.config import TrainingConfig
from apo_jax.models.definition import Definition, Parameters
from apo_jax.sharding import constrain, named

Metrics = dict[str, Float[Array, ""]]
Loss = Callable[[Parameters, Any], tuple[Float[Array, ""], Metrics]]


class TrainState(NamedTuple):
  """All that an update reads and writes; `step` counts the updates made."""

  step: Int[Array, ""]
  parameters: Parameters
  optimizer_state: optax.OptState


Update = Callable[[TrainState, Any], tuple[TrainState, Metrics]]


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
  """AdamW behind clipping by global norm. Weight decay spares the norms' scales."""

  def decayed(parameters: Parameters) -> Any:
    def is_weight(path: tuple[Any, ...], _: jax.Array) -> bool:
      return not path[-1].key.endswith("norm")

    return jax.tree_util.tree_map_with_path(is_weight, parameters)

  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      make_schedule(config, total_steps),
      b1=config.beta1,
      b2=config.beta2,
      weight_decay=config.weight_decay,
      mask=decayed,
    ),
  )


def abstract_state(definition: Definition, optimizer: optax.GradientTransformation) -> TrainState:
  """Shapes, types and shardings of a training state: moments lie where their parameters lie."""
  mesh = jax.tree.leaves(definition.shardings)[0].mesh
  replicated = NamedSharding(mesh, PartitionSpec())

  def place(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  optimizer_state = optax.tree_map_params(
    optimizer,
    place,
    jax.eval_shape(optimizer.init, definition.abstract),
    definition.shardings,
    transform_non_params=lambda leaf: place(leaf, replicated),
  )
  step = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated)
  return TrainState(step, definition.abstract, optimizer_state)


def init_state(
  definition: Definition, optimizer: optax.GradientTransformation, parameters: Parameters
) -> TrainState:
  """The state before the first update.

  Parameters are copied: a step donates its state, and whoever gave them may still need them.
  """

  def create(parameters: Parameters) -> TrainState:
    copied = jax.tree.map(jnp.copy, parameters)
    return TrainState(jnp.zeros((), jnp.int32), copied, optimizer.init(parameters))

  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(definition, optimizer))
  return jax.jit(create, in_shardings=(definition.shardings,), out_shardings=shardings)(parameters)


def jit_update(
  update: Update,
  definition: Definition,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
) -> Update:
  """A step jitted with explicit layouts (the former pjit): it donates its state.

  The state keeps the layout of `abstract_state`, batches are split by rows, metrics are on every
  device.
  """
  state = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(definition, optimizer))
  return jax.jit(
    update,
    in_shardings=(state, named(mesh, "batch")),
    out_shardings=(state, named(mesh)),
    donate_argnums=0,
  )


def accumulate_gradients(
  loss: Loss, parameters: Parameters, batch: Any, micro_batches: int
) -> tuple[Parameters, Metrics]:
  """Gradients and metrics of the whole batch, one micro-batch in memory at a time.

  `loss` must divide its sums by the whole batch's denominators, so that the micro-batches' values
  add up; so do its metrics. A micro-batch takes every `micro_batches`-th row: each device then
  keeps the rows it has.
  """
  gradient = jax.grad(lambda p, b: _with_loss(loss(p, b)), has_aux=True)
  if micro_batches == 1:
    return gradient(parameters, batch)

  def split(array: jax.Array) -> jax.Array:
    parts = array.reshape(-1, micro_batches, *array.shape[1:]).swapaxes(0, 1)
    return constrain(parts, None, "batch")

  def body(total: Any, micro_batch: Any) -> tuple[Any, None]:
    return jax.tree.map(jnp.add, total, gradient(parameters, micro_batch)), None

  micro = jax.tree.map(split, batch)
  shapes = jax.eval_shape(gradient, parameters, jax.tree.map(lambda array: array[0], micro))
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
  return jax.lax.scan(body, zeros, micro)[0]


def apply_gradients(
  state: TrainState, gradients: Parameters, optimizer: optax.GradientTransformation
) -> TrainState:
  """The state after one update."""
  updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.parameters)
  parameters = optax.apply_updates(state.parameters, updates)
  return TrainState(state.step + 1, parameters, optimizer_state)


def _with_loss(result: tuple[Float[Array, ""], Metrics]) -> tuple[Float[Array, ""], Metrics]:
  value, metrics = result
  return value, {"loss": value, **metrics}
