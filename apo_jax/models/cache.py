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
  writes one slot of all of them. Layers lie in one stack or in several (`split_stack`), and each
  part is the keys and values of every stack.

  Attributes:
    prompts: Float[L, B, K, D, P] and Float[L, B, K, P, D] for a stack of L layers.
    responses: Float[L, B, W, K, D, M] and Float[L, B, W, K, M, D].
  """

  prompts: tuple[KeyValues, ...]
  responses: tuple[KeyValues, ...]


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
  stacks: int = 1,
) -> Cache:
  """The cache behind a forward pass over B prompts, before the first of `width` responses to each.

  `keys` and `values` are what `Decoder` keeps. Rings have `slots` slots, all zeros.
  """
  layers, batch, _, heads, head_dim = keys.shape
  rings = (layers, batch, width, heads)
  prompts = (
    keys.transpose(0, 1, 3, 4, 2).astype(dtype),
    values.transpose(0, 1, 3, 2, 4).astype(dtype),
  )
  responses = (
    jnp.zeros((*rings, head_dim, slots), dtype),
    jnp.zeros((*rings, slots, head_dim), dtype),
  )
  return Cache(split_stack(prompts, stacks), split_stack(responses, stacks))


def write_newest(
  rings: KeyValues,
  keys: Float[Array, "B W K D"],
  values: Float[Array, "B W K D"],
  slot: Int[Array, ""],
  layer: Int[Array, ""],
) -> KeyValues:
  """One stack's rings of responses with one layer's newest keys and values in their slot."""

  def write(ring: Array, new: Array, axis: int) -> Array:
    new = jnp.expand_dims(new[None], axis).astype(ring.dtype)
    first = [layer] + [0] * (new.ndim - 1)
    first[axis] = slot
    return jax.lax.dynamic_update_slice(ring, new, first)

  return write(rings[0], keys, -1), write(rings[1], values, -2)


def split_stack(stacked: Any, stacks: int) -> tuple[Any, ...]:
  """A pytree whose leaves have a leading layer axis as several, each of as many of its layers."""
  if stacks == 1:
    return (stacked,)
  parts = jax.tree.map(lambda leaf: jnp.split(leaf, stacks), stacked)
  return tuple(jax.tree.transpose(jax.tree.structure(stacked), None, parts))
