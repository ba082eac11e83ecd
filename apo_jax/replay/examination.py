"""What is computed of one batch beside its update: every row by itself, and where numbers end."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt32

from apo_jax.models.definition import Definition, Parameters, join
from apo_jax.training.optimization import TrainState
from apo_jax.training.update import LossParts, in_micro_batches, keys_of_step, make_gradient

# What an update computes with and computes, in order.
_STAGES = (
  "the frozen parameter",
  "the parameter",
  "the optimizer's",
  "the batch's",
  "of what the model says",
  "the metric",
  "the gradient of",
)


class Examination(NamedTuple):
  """What was found of a batch.

  Attributes:
    said: what the model says of the batch, a pytree of arrays of its rows.
    gradients: norms of the gradient by group of parameters, and "all".
    largest: the parameter with the number that is farthest from 0, and how far.
    not_finite: names of arrays that hold numbers which are none, each with how many of how many, in
      the order in which they are computed.
  """

  said: Any
  gradients: Mapping[str, float]
  largest: tuple[str, float]
  not_finite: Sequence[tuple[str, int, int]]


def examine(
  parts: LossParts,
  definition: Definition,
  accumulation: int,
  state: TrainState,
  batch: Any,
  frozen: Parameters,
  key: UInt32[np.ndarray, "2"],
) -> Examination:
  """Reads a batch as the update behind `state` would, and changes nothing.

  Args:
    parts: of the loss.
    definition: the model.
    accumulation: micro-batches that the batch is read in.
    state: before the update.
    batch: on the devices.
    frozen: the parameters beside adapters.
    key: of the phase (`make_update`).
  """
  gradient = make_gradient(parts, definition, accumulation)

  def read(state: TrainState, batch: Any, frozen: Parameters, key: Array) -> tuple[Any, ...]:
    _, dropout_key = keys_of_step(definition, key, state.step)
    gradients, metrics = gradient(state.parameters, batch, frozen, dropout_key)
    model = definition.bind(join(state.parameters, frozen))

    def forward(micro: tuple[Any, Array | None]) -> Any:
      return parts.forward(model, *micro)

    if accumulation == 1:
      said = forward((batch, dropout_key))
    else:
      said = jax.lax.map(forward, in_micro_batches(batch, accumulation, dropout_key))
      said = jax.tree.map(_joined, said)
    found = (frozen, state.parameters, state.optimizer_state, batch, said, metrics, gradients)
    computed = dict(zip(_STAGES, found, strict=True))
    sizes = largest_numbers(join(state.parameters, frozen))
    return said, norms_by_group(gradients), sizes, counts_not_finite(computed)

  said, norms, sizes, counts = jax.device_get(jax.jit(read)(state, batch, frozen, key))
  found = [(name, int(bad), size) for name, (bad, size) in _in_order(counts) if bad]
  largest = max(sizes, key=lambda name: sizes[name])
  norms = {name: float(norm) for name, norm in norms.items()}
  return Examination(said, norms, (largest, float(sizes[largest])), found)


def norms_by_group(gradients: Parameters) -> dict[str, Float[Array, ""]]:
  """The norm of each group's gradient: of a stack of layers each projection, else each parameter.

  Layers are stacked, so that a group is one kind of parameter in all of them.
  """
  leaves = jax.tree_util.tree_flatten_with_path(gradients)[0]
  norms = {_name(path): optax.tree.norm(leaf) for path, leaf in leaves}
  return {**norms, "all": optax.tree.norm(gradients)}


def largest_numbers(parameters: Parameters) -> dict[str, Float[Array, ""]]:
  """How far from 0 the numbers of each array of floats are at most; infinite where one is none."""
  leaves = jax.tree_util.tree_flatten_with_path(parameters)[0]

  def largest(leaf: Array) -> Float[Array, ""]:
    size = jnp.abs(leaf).astype(jnp.float32)
    return jnp.max(jnp.where(jnp.isnan(size), jnp.inf, size))

  return {
    _name(path): largest(leaf)
    for path, leaf in leaves
    if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size
  }


def counts_not_finite(computed: Mapping[str, Any]) -> dict[str, dict[str, Array]]:
  """Of every array of floats, by stage and name, how many of its numbers are none, and its size."""
  found: dict[str, dict[str, Any]] = {}
  for stage, tree in computed.items():
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    found[stage] = {
      _name(path): (jnp.sum(~jnp.isfinite(leaf)), leaf.size)
      for path, leaf in leaves
      if jnp.issubdtype(leaf.dtype, jnp.floating)
    }
  return found


def _in_order(counts: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Any]]:
  """By stage and name, the stages as they are computed: `jit` gives dictionaries back sorted."""
  return [
    (f"{stage} {name}".strip(), value) for stage in _STAGES for name, value in counts[stage].items()
  ]


def _joined(parts: Array) -> Array:
  """[M, B / M, ...] as [B, ...]: the other way of `in_micro_batches`."""
  return parts.swapaxes(0, 1).reshape(-1, *parts.shape[2:])


def _name(path: tuple[Any, ...]) -> str:
  return jax.tree_util.keystr(path, simple=True, separator=".")
