"""Rows that are over leave the sampler's batch, and new ones join it: who sits where.

A batch holds G groups of W rows. A group has one prompt, its rows are responses to it. Packing
moves the live rows of one or more batches into one, never from one device to another: groups
belong to shards of the batch, and rows stay in their shard.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Array, Int

from apo_jax.inference.decoding import State

NOBODY = -1

# A smaller shape is compiled and used only while responses may still need this many steps.
STEPS_WORTH_PACKING = 16
MOST_SHAPES = 4


class Shape(NamedTuple):
  """A batch's groups, over all shards, and the rows of each."""

  groups: int
  width: int


class Batch(NamedTuple):
  """A state and whose its rows are; a row that is over belongs to nobody.

  Attributes:
    state: arrays on the devices.
    queries: Int[G, W], the index of each row's query, or `NOBODY`.
    columns: Int[G, W], which of the query's samples it is.
  """

  state: State
  queries: Int[np.ndarray, "G W"]
  columns: Int[np.ndarray, "G W"]

  @property
  def shape(self) -> Shape:
    """Its groups and their rows."""
    return Shape(*self.queries.shape)


def shapes(groups: int, width: int, shards: int) -> list[Shape]:
  """The shapes a batch shrinks through: half the rows a group, then half the groups.

  There are as many prompts in a narrower batch as in the first, so it needs no more memory.
  """
  found = [Shape(groups, width)]
  while len(found) < MOST_SHAPES:
    groups, width = found[-1]
    if width > 1:
      found.append(Shape(groups, -(-width // 2)))
    elif groups % (2 * shards) == 0:
      found.append(Shape(groups // 2, 1))
    else:
      break
  return found


def fits(queries: Sequence[Int[np.ndarray, "_ _"]], shape: Shape, shards: int) -> bool:
  """Whether the live rows of these batches fit into a shape, in every shard."""
  most = max(groups_needed(rows, shape.width) for rows in _shard_rows(queries, shards))
  return most <= shape.groups // shards


def groups_needed(queries: Int[np.ndarray, "..."], width: int) -> int:
  """Groups of `width` rows that hold the live ones among these rows."""
  _, counts = np.unique(queries[queries != NOBODY], return_counts=True)
  return int(np.sum(-(-counts // width)))


def pack(batches: Sequence[Batch], shape: Shape, shards: int) -> Batch:
  """One batch of the live rows of these batches, which have to fit (`fits`).

  The clock is the first batch's. The others are new: none of their responses has been read.
  """
  queries = [batch.queries for batch in batches]
  owners = _shard_rows(queries, shards)
  rows = np.stack([_seats(rows, shape.groups // shards, shape.width) for rows in owners])
  # The group of each row, counted within its shard.
  group_of, first = [], 0
  for groups, width in (batch.shape for batch in batches):
    group_of.append(first + np.arange(groups // shards * width) // width)
    first += groups // shards
  taken, seats = rows != NOBODY, np.maximum(rows, 0)
  groups = np.concatenate(group_of)[seats[:, :, 0]]
  seats = seats.reshape(shards, -1)

  def owner(arrays: Sequence[np.ndarray]) -> np.ndarray:
    chosen = np.take_along_axis(_shard_rows(arrays, shards), seats, axis=1)
    return np.where(taken.reshape(shape), chosen.reshape(shape), NOBODY)

  states = [batch.state for batch in batches]

  def moved(part: str, width: int, *, axis: int = 0) -> Any:
    index = seats if width else groups
    move = functools.partial(_move, index=index, axis=axis, width=width)
    return jax.tree.map(lambda *arrays: move(arrays), *(getattr(state, part) for state in states))

  drawing = moved("drawing", shape.width)
  live = _keep(drawing.live, taken.reshape(shape))
  state = State(
    prompts=moved("prompts", 0, axis=1),
    responses=moved("responses", shape.width, axis=1),
    prompt_lengths=moved("prompt_lengths", 0),
    drawing=drawing._replace(live=live),
    clock=states[0].clock,
  )
  return Batch(state, owner(queries), owner([batch.columns for batch in batches]))


def _shard_rows(arrays: Sequence[Int[np.ndarray, "_ _"]], shards: int) -> Int[np.ndarray, "N R"]:
  """The rows of these batches, those of each shard in a row."""
  return np.concatenate([array.reshape(shards, -1) for array in arrays], axis=1)


def _seats(queries: Int[np.ndarray, "R"], groups: int, width: int) -> Int[np.ndarray, "G W"]:
  """Which row sits where: the live rows of a query side by side, in as few groups as hold them."""
  seats = np.full((groups, width), NOBODY)
  group = 0
  for query in dict.fromkeys(queries[queries != NOBODY].tolist()):
    rows = np.flatnonzero(queries == query)
    for first in range(0, len(rows), width):
      some = rows[first : first + width]
      seats[group, : len(some)] = some
      group += 1
  return seats


def _move(
  arrays: Sequence[Array], *, index: Int[np.ndarray, "N I"], axis: int, width: int
) -> Array:
  return _moved(tuple(arrays), index, axis=axis, width=width, sharding=arrays[0].sharding)


@functools.partial(jax.jit, static_argnames=("axis", "width", "sharding"))
def _moved(
  arrays: tuple[Array, ...],
  index: Int[Array, "N I"],
  *,
  axis: int,
  width: int,
  sharding: Sharding,
) -> Array:
  """The groups, or with a width the rows, that `index` names within each of its N shards.

  Groups lie on axis `axis`, rows on the next.
  """
  shards = index.shape[0]

  def split(array: Array) -> Array:
    """Shards on `axis`, their groups or rows on the next."""
    behind = array.shape[axis + 2 :] if width else array.shape[axis + 1 :]
    return array.reshape(*array.shape[:axis], shards, -1, *behind)

  whole = jnp.concatenate([split(array) for array in arrays], axis=axis + 1)
  take = functools.partial(jnp.take, axis=axis)
  taken = jax.vmap(take, in_axes=(axis, 0), out_axes=axis)(whole, index)
  rows = (-1, width) if width else (-1,)
  taken = taken.reshape(*taken.shape[:axis], *rows, *taken.shape[axis + 2 :])
  return jax.lax.with_sharding_constraint(taken, sharding)


@jax.jit
def _keep(live: Array, taken: Array) -> Array:
  return live & taken
