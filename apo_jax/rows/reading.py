"""Which slots of a row belong to which of its responses: one reading of both layouts of `Rows`."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from apo_jax.rows.rows import RESPONSE_SEGMENT, SHARED_SEGMENT, Rows, flatten


def as_sequences(rows: Rows, num_responses: int) -> tuple[Rows, int]:
  """Rows [N, T] of either layout, as models read them, and how many responses each holds.

  What a model says of them, [N, held], is [B, num_responses] after a reshape.
  """
  return (flatten(rows), 1) if rows.tokens.ndim == 3 else (rows, num_responses)


def own_slots(segment_ids: Int[Array, "B T"], num_responses: int) -> Bool[Array, "B R T"]:
  """The slots that are one response's own, its eos with them."""
  segments = RESPONSE_SEGMENT + jnp.arange(num_responses)
  return segment_ids[:, None, :] == segments[:, None]


def seen_slots(segment_ids: Int[Array, "B T"], num_responses: int) -> Bool[Array, "B R T"]:
  """The slots of the sequence `query y_r eos` for each response: the query's and its own."""
  is_query = segment_ids == SHARED_SEGMENT
  return own_slots(segment_ids, num_responses) | is_query[:, None, :]


def sum_by_response(
  values: Shaped[Array, "B T"], segment_ids: Int[Array, "B T"], num_responses: int
) -> Shaped[Array, "B R"]:
  """The sum of `values` over each response's own slots; of bools, how many are true."""
  own = own_slots(segment_ids, num_responses)
  return jnp.sum(jnp.where(own, values[:, None, :], 0), axis=-1)


def predicting_slots(segment_ids: Int[Array, "B T"]) -> Int[Array, "B T"]:
  """The slot whose hidden state predicts each token: the one before, within its own sequence.

  Before the first token of every response that is the query's last slot.
  """
  slots = jnp.arange(segment_ids.shape[1])
  query_end = jnp.max(jnp.where(segment_ids == SHARED_SEGMENT, slots, 0), axis=1, keepdims=True)
  before = jnp.pad(segment_ids[:, :-1], ((0, 0), (1, 0)))
  begins = (segment_ids != before) & (segment_ids >= RESPONSE_SEGMENT)
  return jnp.where(begins, query_end, jnp.maximum(slots - 1, 0))
