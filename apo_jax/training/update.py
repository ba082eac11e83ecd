"""What both players' steps share: from what a batch's loss is, to the jitted update."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.stages import Lowered
from jaxtyping import Array, Float, Int, Key, UInt32

from apo_jax.devices import cpu
from apo_jax.devices.sharding import constrain, named
from apo_jax.models.definition import Definition, Parameters, join
from apo_jax.objectives import Sums, mean
from apo_jax.training.optimization import TrainState, abstract_state
from apo_jax.training.rounding import add_updates

Metrics = dict[str, Float[Array, ""]]
# `state, metrics = update(state, batch, frozen, key)`, see `make_update`.
Update = Callable[[TrainState, Any, Parameters, Any], tuple[TrainState, Metrics]]

# What a model says of a batch, for instance log-probabilities, with a key for dropout or None.
Forward = Callable[[Any, Any, Array | None], Any]
# The sums of every part of the loss, and of other metrics, from what the model said of a batch.
Measure = Callable[[Any, Any], dict[str, Sums]]
# The loss, and metrics, from the parts' totals, the whole batch's counts and what was gathered.
Combine = Callable[[dict[str, Array], dict[str, Array], Any], tuple[Float[Array, ""], Metrics]]
# Sums over a batch that the loss of each of its rows depends on, from what the model said of it.
Gather = Callable[[Any, Any], Any]


class LossParts(NamedTuple):
  """What a batch's loss is made of.

  Attributes:
    forward: what the model says of a batch.
    measure: the sums of the loss's parts; each part's metrics are divided by its count.
    combine: the loss from them; metrics of micro-batches are added up.
    gather: sums over the whole batch that weigh the loss's parts, without a gradient; `combine`
      gets them, or None. Micro-batches are read once more for them, before the gradients.
  """

  forward: Forward
  measure: Measure
  combine: Combine
  gather: Gather | None = None


# `gradients, metrics = gradient(trained, batch, frozen, dropout_key)`.
Gradient = Callable[[Parameters, Any, Parameters, Array | None], tuple[Parameters, Metrics]]


def make_update(
  parts: LossParts,
  definition: Definition,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  *,
  accumulation: int = 1,
) -> Update:
  """A step jitted with explicit layouts (the former pjit): it donates its state.

  The state keeps the layout of `abstract_state`, batches are split by rows, metrics are on every
  device.

  Args:
    parts: of the loss.
    definition: the model.
    optimizer: the optimizer of the state.
    mesh: the device mesh.
    accumulation: micro-batches that a batch is read in, one in memory at a time.

  Returns:
    `state, metrics = update(state, batch, frozen, key)`, with the frozen parameters beside adapters
    (`Definition.split`; none without), which are not donated, and the raw key UInt32[2] of the
    adapters' dropout or of rounding (`seeds.derive_key`), one a training phase. Metrics are `loss`,
    `gradient_norm`, and those of the loss's parts.
  """
  gradient = make_gradient(parts, definition, accumulation)

  def update(
    state: TrainState, batch: Any, frozen: Parameters, key: UInt32[Array, "2"]
  ) -> tuple[TrainState, Metrics]:
    step_key, dropout_key = keys_of_step(definition, key, state.step)
    gradients, metrics = gradient(state.parameters, batch, frozen, dropout_key)
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    return apply_gradients(state, gradients, optimizer, step_key), metrics

  layout = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(definition, optimizer))
  frozen = definition.split(definition.shardings)[1]
  return jax.jit(
    update,
    in_shardings=(layout, named(mesh, "batch"), frozen, named(mesh)),
    out_shardings=(layout, named(mesh)),
    donate_argnums=0,
    compiler_options=cpu.compiler_options(mesh, definition.architecture.remat),
  )


def keys_of_step(
  definition: Definition, key: UInt32[Array, "2"], step: Int[Array, ""]
) -> tuple[Key[Array, ""], Key[Array, ""] | None]:
  """The key of a step's rounding, and that of its dropout, None where the model has none.

  Adapters have dropout, masters may be rounded at random; no model has both.
  """
  step_key = jax.random.fold_in(jax.random.wrap_key_data(key, impl="threefry2x32"), step)
  return step_key, None if definition.lora is None else step_key


def make_gradient(parts: LossParts, definition: Definition, accumulation: int) -> Gradient:
  """The gradient of a batch's loss and the batch's metrics, `loss` among them."""
  forward, measure, combine, gather = parts

  def whole(
    trained: Parameters, batch: Any, frozen: Parameters, dropout_key: Array | None
  ) -> tuple[Parameters, Metrics]:
    def said(trained: Parameters, batch: Any, dropout_key: Array | None) -> Any:
      return forward(definition.bind(join(trained, frozen)), batch, dropout_key)

    # Counts do not depend on what the model says: those of the whole batch are known before.
    shapes = jax.eval_shape(said, trained, batch, dropout_key)
    silence = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    counts = {name: sums.count for name, sums in measure(silence, batch).items()}

    def gathered(micro_batch: Any, dropout_key: Array | None) -> Any:
      return gather(said(trained, micro_batch, dropout_key), micro_batch)

    of_all = None
    if gather is not None and accumulation > 1:
      of_all = sum_micro_batches(gathered, batch, accumulation, dropout_key)

    def loss(
      trained: Parameters, micro_batch: Any, dropout_key: Array | None
    ) -> tuple[Float[Array, ""], Metrics]:
      found, weighing = said(trained, micro_batch, dropout_key), of_all
      if gather is not None and weighing is None:
        weighing = gather(jax.lax.stop_gradient(found), micro_batch)
      sums_of = measure(found, micro_batch)
      totals = {name: sums.total for name, sums in sums_of.items()}
      value, metrics = combine(totals, counts, weighing)
      for name, sums in sums_of.items():
        metrics |= {key: mean(total, counts[name]) for key, total in sums.metrics.items()}
      return value, {"loss": value, **metrics}

    return accumulate_gradients(loss, trained, batch, accumulation, dropout_key)

  return whole


def lower_update(
  update: Update, definition: Definition, optimizer: optax.GradientTransformation, batch: Any
) -> Lowered:
  """What is compiled of a step for batches of these shapes, without data."""
  shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), batch)
  frozen = definition.split(definition.abstract)[1]
  key = jax.ShapeDtypeStruct((2,), jnp.uint32)
  return update.lower(abstract_state(definition, optimizer), shapes, frozen, key)


def accumulate_gradients(
  loss: Callable[[Parameters, Any, Array | None], tuple[Float[Array, ""], Metrics]],
  parameters: Parameters,
  batch: Any,
  micro_batches: int,
  dropout_key: Array | None = None,
) -> tuple[Parameters, Metrics]:
  """Gradients and metrics of the whole batch, one micro-batch in memory at a time.

  `loss` must divide its sums by the whole batch's denominators, so that the micro-batches' values
  add up; so do its metrics.
  """
  gradient = functools.partial(jax.grad(loss, has_aux=True), parameters)
  return sum_micro_batches(gradient, batch, micro_batches, dropout_key)


def sum_micro_batches(
  function: Callable[[Any, Array | None], Any],
  batch: Any,
  micro_batches: int,
  dropout_key: Array | None = None,
) -> Any:
  """The sum of what `function` gives for each micro-batch and its own key for dropout.

  A micro-batch takes every `micro_batches`-th row: each device then keeps the rows it has.
  """
  if micro_batches == 1:
    return function(batch, dropout_key)

  def body(total: Any, micro_batch: Any) -> tuple[Any, None]:
    return jax.tree.map(jnp.add, total, function(*micro_batch)), None

  micro = in_micro_batches(batch, micro_batches, dropout_key)
  first = jax.tree.map(lambda array: array[0], micro)
  shapes = jax.eval_shape(function, *first)
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
  return jax.lax.scan(body, zeros, micro)[0]


def in_micro_batches(
  batch: Any, micro_batches: int, dropout_key: Array | None
) -> tuple[Any, Array | None]:
  """The arrays of a batch, [B, ...] as [M, B / M, ...], and a key of dropout for each of the M."""

  def split(array: jax.Array) -> jax.Array:
    parts = array.reshape(-1, micro_batches, *array.shape[1:]).swapaxes(0, 1)
    return constrain(parts, None, "batch")

  keys = None if dropout_key is None else jax.random.split(dropout_key, micro_batches)
  return jax.tree.map(split, batch), keys


def apply_gradients(
  state: TrainState,
  gradients: Parameters,
  optimizer: optax.GradientTransformation,
  key: Key[Array, ""],
) -> TrainState:
  """The state after one update; `key` is for the rounding of parameters in bfloat16."""
  updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.parameters)
  parameters = add_updates(state.parameters, updates, key)
  return TrainState(state.step + 1, parameters, optimizer_state)
