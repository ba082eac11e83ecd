"""Attention over whole rows by XLA's products, block by block of queries.

Each block reads the keys up to its end: what would be masked behind them is never computed. Of all
that it computes it keeps what it attended to and one number a query, from which the backward pass
finds the weights again (FlashAttention-2, arXiv 2307.08691, algorithms 1 and 2, in the queries
alone: all keys of a block are there at once).
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from apo_jax.models.architecture import Architecture
from apo_jax.models.attention import soft_cap

# More blocks leave out more pairs, compile longer, and make products too small to be quick.
MOST_BLOCKS = 8
SMALLEST_BLOCK = 64  # slots

# What a rematerialisation policy may keep, so that the backward pass need not attend again.
KEPT = "attended"

UNSEEN = jnp.finfo(jnp.float32).min  # not -inf, which gives NaN where a query sees nothing


def attend_earlier(
  queries: Float[Array, "B T N D"],
  keys: Float[Array, "B T K D"],
  values: Float[Array, "B T K D"],
  mask: Bool[Array, "B T T"],
  architecture: Architecture,
) -> Float[Array, "B T N D"]:
  """Grouped-query attention of rows whose mask shows no slot a later one.

  Query heads n * N/K to (n + 1) * N/K read key head n. A query that sees nothing gets zeros.
  Logits, weights and their sums are float32.
  """
  kv_heads = keys.shape[2]
  heads_first = (_heads_first(array, kv_heads) for array in (queries, keys, values))
  attended = _attend(architecture.query_scale, architecture.attention_softcap, *heads_first, mask)
  return _heads_last(attended, queries.shape)


def attended_pairs(length: int) -> int:
  """Pairs of slots that `attend_earlier` computes for a row of this length."""
  return sum((end - first) * end for first, end in _blocks(length))


def _blocks(length: int) -> list[tuple[int, int]]:
  """Where each block of queries begins and ends."""
  count = max(1, min(MOST_BLOCKS, length // SMALLEST_BLOCK))
  return list(itertools.pairwise(length * block // count for block in range(count + 1)))


def _heads_first(array: Float[Array, "B T N D"], kv_heads: int) -> Float[Array, "B K S D"]:
  """The N/K heads that share a key head side by side, S = T * N/K: no product takes them apart."""
  batch, length, _, head_dim = array.shape
  grouped = array.reshape(batch, length, kv_heads, -1, head_dim)
  return grouped.transpose(0, 2, 1, 3, 4).reshape(batch, kv_heads, -1, head_dim)


def _heads_last(array: Float[Array, "B K S D"], shape: tuple[int, ...]) -> Float[Array, "B T N D"]:
  batch, kv_heads, _, head_dim = array.shape
  grouped = array.reshape(batch, kv_heads, shape[1], -1, head_dim)
  return grouped.transpose(0, 2, 1, 3, 4).reshape(shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(
  scale: float,
  softcap: float,
  queries: Float[Array, "B K S D"],
  keys: Float[Array, "B K T D"],
  values: Float[Array, "B K T D"],
  mask: Bool[Array, "B T T"],
) -> Float[Array, "B K S D"]:
  return _attend_forward(scale, softcap, queries, keys, values, mask)[0]


def _attend_forward(scale, softcap, queries, keys, values, mask):
  group = queries.shape[2] // keys.shape[2]
  attended, normalisers = [], []
  for first, end in _blocks(keys.shape[2]):
    own = slice(first * group, end * group)
    seen = _of_group(mask[:, first:end, :end], group)
    logits = _logits(queries[:, :, own], keys[:, :, :end], seen, scale, softcap)
    highest = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.exp(logits - highest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    found = _product(weights.astype(values.dtype), values[:, :, :end], 3, 2)
    sees = highest > UNSEEN
    attended.append(jnp.where(sees, found / total, 0.0).astype(queries.dtype))
    normalisers.append(jnp.where(sees, highest + jnp.log(total), 0.0))
  attended = checkpoint_name(jnp.concatenate(attended, axis=2), KEPT)
  normaliser = checkpoint_name(jnp.concatenate(normalisers, axis=2), KEPT)
  return attended, (queries, keys, values, mask, attended, normaliser)


def _attend_backward(scale, softcap, kept, gradient):
  queries, keys, values, mask, attended, normaliser = kept
  group = queries.shape[2] // keys.shape[2]
  both = gradient.astype(jnp.float32) * attended.astype(jnp.float32)
  along = jnp.sum(both, axis=-1, keepdims=True)  # of the gradient, what the softmax takes out
  by_queries = []
  by_keys, by_values = (jnp.zeros(array.shape, jnp.float32) for array in (keys, values))
  for first, end in _blocks(keys.shape[2]):
    own = slice(first * group, end * group)
    seen = _of_group(mask[:, first:end, :end], group)
    block, above = queries[:, :, own], gradient[:, :, own]
    logits = _logits(block, keys[:, :, :end], seen, scale, softcap)
    weights = jnp.exp(logits - normaliser[:, :, own])
    by_logits = weights * (_product(above, values[:, :, :end], 3, 3) - along[:, :, own])
    if softcap:
      by_logits *= jnp.where(seen, 1 - jnp.square(logits / softcap), 0.0)
    by_logits = (by_logits * scale).astype(keys.dtype)
    by_queries.append(_product(by_logits, keys[:, :, :end], 3, 2))
    by_keys = by_keys.at[:, :, :end].add(_product(by_logits, block, 2, 2))
    weights = weights.astype(values.dtype)
    by_values = by_values.at[:, :, :end].add(_product(weights, above, 2, 2))
  by_queries = jnp.concatenate(by_queries, axis=2)
  return (
    by_queries.astype(queries.dtype),
    by_keys.astype(keys.dtype),
    by_values.astype(values.dtype),
    None,
  )


_attend.defvjp(_attend_forward, _attend_backward)


def _of_group(mask: Bool[Array, "B t T"], group: int) -> Bool[Array, "B 1 s T"]:
  """The mask of every query of a group, s = t * group."""
  return jnp.repeat(mask, group, axis=1)[:, None]


def _logits(
  queries: Float[Array, "B K s D"],
  keys: Float[Array, "B K T D"],
  seen: Bool[Array, "B 1 s T"],
  scale: float,
  softcap: float,
) -> Float[Array, "B K s T"]:
  logits = _product(queries, keys, 3, 3) * scale
  if softcap:
    logits = soft_cap(logits, softcap)
  return jnp.where(seen, logits, UNSEEN)


def _product(
  left: Float[Array, "B K _ _"], right: Float[Array, "B K _ _"], left_axis: int, right_axis: int
) -> Float[Array, "B K _ _"]:
  """Matrix products over one axis of each, float32, a batch of them."""
  return jax.lax.dot_general(
    left,
    right,
    (((left_axis,), (right_axis,)), ((0, 1), (0, 1))),
    preferred_element_type=jnp.float32,
  )
