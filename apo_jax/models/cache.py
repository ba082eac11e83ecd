"""What a decoder keeps between steps: keys and values of prompts and of the responses to them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

KeyValues = tuple[Array, Array]


class Cache(NamedTuple):
  """Keys and values of what has been read, of B prompts and of W responses to each.

  Heads come before slots, and slots are the last axis of keys, so that each head is a matrix that
  the products of `attend_cache` read as it lies. Responses share one ring of M slots: every step
  writes one slot of all of them. Each part is keys and values with a leading layer axis, or a tuple
  of them, one a layer (`split_cache`).

  Attributes:
    prompts: Float[B, K, D, P] and Float[B, K, P, D].
    responses: Float[B, W, K, D, M] and Float[B, W, K, M, D].
  """

  prompts: KeyValues | tuple[KeyValues, ...]
  responses: KeyValues | tuple[KeyValues, ...]


class Place(NamedTuple):
  """Where one step of decoding stands.

  Attributes:
    prompt_lengths: tokens of each prompt.
    ages: tokens of each response that have been read, this step's included; 0 where a row is over.
    slot: of the ring, where this step's keys and values go. The token n steps back is n slots back.
  """

  prompt_lengths: Int[Array, "B"]
  ages: Int[Array, "B W"]
  slot: Int[Array, ""]


def new_cache(
  keys: Float[Array, "L B P K D"],
  values: Float[Array, "L B P K D"],
  *,
  width: int,
  slots: int,
  dtype: str,
) -> Cache:
  """The cache behind a forward pass over B prompts, before the first of `width` responses to each.

  `keys` and `values` are what `Decoder` keeps. Rings have `slots` slots, all zeros.
  """
  layers, batch, _, heads, head_dim = keys.shape
  rings = (layers, batch, width, heads)
  return Cache(
    prompts=(
      keys.transpose(0, 1, 3, 4, 2).astype(dtype),
      values.transpose(0, 1, 3, 2, 4).astype(dtype),
    ),
    responses=(
      jnp.zeros((*rings, head_dim, slots), dtype),
      jnp.zeros((*rings, slots, head_dim), dtype),
    ),
  )


def write_newest(
  rings: KeyValues,
  keys: Float[Array, "B W K D"],
  values: Float[Array, "B W K D"],
  slot: Int[Array, ""],
  layer: Int[Array, ""] | None,
) -> KeyValues:
  """The responses' rings with the newest keys and values in their slot.

  `layer` says of which layer they are; None where the rings have no layer axis.
  """

  def write(ring: Array, new: Array, axis: int) -> Array:
    new = jnp.expand_dims(new, axis).astype(ring.dtype)
    first = [0] * new.ndim
    first[axis] = slot
    if layer is not None:
      new, first = new[None], [layer, *first]
    return jax.lax.dynamic_update_slice(ring, new, first)

  return write(rings[0], keys, -1), write(rings[1], values, -2)


def split_layers(stacked: Any) -> tuple[Any, ...]:
  """A pytree whose leaves have a leading layer axis, as a tuple of pytrees, one a layer."""
  layers = jax.tree.leaves(stacked)[0].shape[0]
  return tuple(jax.tree.map(lambda leaf: leaf[n], stacked) for n in range(layers))  # noqa: B023


def split_cache(cache: Cache) -> Cache:
  """A cache with a leading layer axis, as one of single layers."""
  return Cache(split_layers(cache.prompts), split_layers(cache.responses))
