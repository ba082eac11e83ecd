"""What both players' steps share: the optimizer, the training state, accumulated gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, UInt32

from apo_jax.config.schema import TrainingConfig
from apo_jax.devices import cpu
from apo_jax.devices.sharding import constrain, named
from apo_jax.models.definition import Definition, Parameters

Metrics = dict[str, Float[Array, ""]]
# Of the trained parameters, a batch and the key for dropout, or None.
Loss = Callable[[Parameters, Any, Array | None], tuple[Float[Array, ""], Metrics]]


class TrainState(NamedTuple):
  """All that an update reads and writes; `step` counts the updates made.

  `parameters` are the trained ones: with adapters, these and the reward head alone.
  """

  step: Int[Array, ""]
  parameters: Parameters
  optimizer_state: optax.OptState


Update = Callable[..., tuple[TrainState, Metrics]]  # see `jit_update`


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
  """AdamW behind clipping by global norm. Weight decay spares scales and biases."""

  def decayed(parameters: Parameters) -> Any:
    def is_weight(path: tuple[Any, ...], _: jax.Array) -> bool:
      return not path[-1].key.endswith(("norm", "bias"))

    return jax.tree_util.tree_map_with_path(is_weight, parameters)

  return optax.chain(
    clip_by_global_norm(config.clip_norm),
    optax.adamw(
      make_schedule(config, total_steps),
      b1=config.beta1,
      b2=config.beta2,
      weight_decay=config.weight_decay,
      mask=decayed,
    ),
  )


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

  def create(parameters: Parameters) -> TrainState:
    copied = jax.tree.map(jnp.copy, parameters)
    return TrainState(jnp.zeros((), jnp.int32), copied, optimizer.init(parameters))

  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(definition, optimizer))
  create = jax.jit(create, in_shardings=(shardings.parameters,), out_shardings=shardings)
  return create(parameters)


def jit_update(
  update: Callable[[TrainState, Any, Parameters, Array | None], tuple[TrainState, Metrics]],
  definition: Definition,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
) -> Update:
  """A step jitted with explicit layouts (the former pjit): it donates its state.

  The state keeps the layout of `abstract_state`, batches are split by rows, metrics are on every
  device.

  Args:
    update: the state after `update(state, batch, frozen, dropout_key)`, and metrics.
    definition: the model.
    optimizer: the optimizer of the state.
    mesh: the device mesh.

  Returns:
    `state, metrics = step(state, batch)`. With adapters it is `step(state, batch, frozen, seed)`:
    the frozen parameters (`Definition.split`), which are not donated, and the raw key UInt32[2] of
    the adapters' dropout (`seeds.derive_key`), one a training phase.
  """
  state = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(definition, optimizer))
  layouts: tuple[Any, ...] = (state, named(mesh, "batch"))
  if definition.lora is None:

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
      return update(state, batch, {}, None)

  else:
    layouts += (definition.split(definition.shardings)[1], named(mesh))

    def step(
      state: TrainState, batch: Any, frozen: Parameters, seed: UInt32[Array, "2"]
    ) -> tuple[TrainState, Metrics]:
      key = jax.random.wrap_key_data(seed, impl="threefry2x32")
      return update(state, batch, frozen, jax.random.fold_in(key, state.step))

  return jax.jit(
    step,
    in_shardings=layouts,
    out_shardings=(state, named(mesh)),
    donate_argnums=0,
    compiler_options=cpu.compiler_options(mesh, definition.architecture.remat),
  )


def accumulate_gradients(
  loss: Loss,
  parameters: Parameters,
  batch: Any,
  micro_batches: int,
  dropout_key: Array | None = None,
) -> tuple[Parameters, Metrics]:
  """Gradients and metrics of the whole batch, one micro-batch in memory at a time.

  `loss` must divide its sums by the whole batch's denominators, so that the micro-batches' values
  add up; so do its metrics. A micro-batch takes every `micro_batches`-th row: each device then
  keeps the rows it has.
  """
  gradient = jax.grad(lambda *arguments: _with_loss(loss(*arguments)), has_aux=True)
  if micro_batches == 1:
    return gradient(parameters, batch, dropout_key)

  def split(array: jax.Array) -> jax.Array:
    parts = array.reshape(-1, micro_batches, *array.shape[1:]).swapaxes(0, 1)
    return constrain(parts, None, "batch")

  def body(total: Any, micro_batch: Any) -> tuple[Any, None]:
    return jax.tree.map(jnp.add, total, gradient(parameters, *micro_batch)), None

  keys = None if dropout_key is None else jax.random.split(dropout_key, micro_batches)
  micro = (jax.tree.map(split, batch), keys)
  first = jax.tree.map(lambda array: array[0], micro)
  shapes = jax.eval_shape(gradient, parameters, *first)
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
