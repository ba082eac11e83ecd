"""Log-probabilities of given tokens under a policy, without logits of every token in memory."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from apo_jax.models.decoder import Decoder
from apo_jax.models.vocabulary import logprobs_by_chunks, logprobs_of
from apo_jax.rows.reading import predicting_slots, sum_by_response
from apo_jax.rows.rows import SHARED_SEGMENT, Rows


def sequence_logprobs(
  policy: Decoder,
  rows: Rows,
  num_responses: int = 1,
  *,
  dropout_key: Key[Array, ""] | None = None,
) -> Float[Array, "B R"]:
  """log pi(y|x) of the responses in each row [B, T]: the sum over their drawn tokens, float32.

  A response that a row does not hold gets 0.
  """
  hidden = _hidden_states(policy, rows, num_responses, dropout_key)
  found = logprobs_of_hidden(policy, hidden, rows, rows.response_mask, num_responses)
  return sum_by_response(found, rows.segment_ids, num_responses)


class SaidOfRows(NamedTuple):
  """What a policy says of rows that hold R responses each.

  Attributes:
    drawn: Float[B, R], log pi(y|x), summed over drawn tokens.
    imitated: Float[B, R], the same, and with the eos of each response that a stop string ended
      (`ScoredResponses`).
    query_embeddings: Float[B, D], float32, the mean of the last hidden states over a row's query,
      without gradient; None where it is not asked for.
  """

  drawn: Float[Array, "B R"]
  imitated: Float[Array, "B R"]
  query_embeddings: Float[Array, "B D"] | None = None


def say_of_rows(
  policy: Decoder,
  rows: Rows,
  num_responses: int = 1,
  *,
  with_queries: bool = False,
  dropout_key: Key[Array, ""] | None = None,
) -> SaidOfRows:
  """What a policy says of the responses in each row [B, T], and with_queries of their queries."""
  hidden = _hidden_states(policy, rows, num_responses, dropout_key)
  mask = rows.response_mask | rows.ends
  found = logprobs_of_hidden(policy, hidden, rows, mask, num_responses)
  drawn = jnp.where(rows.response_mask, found, 0.0)
  sums = (sum_by_response(one, rows.segment_ids, num_responses) for one in (drawn, found))
  return SaidOfRows(*sums, _mean_over_query(hidden, rows) if with_queries else None)


def _mean_over_query(hidden: Float[Array, "B T D"], rows: Rows) -> Float[Array, "B D"]:
  hidden = jax.lax.stop_gradient(hidden).astype(jnp.float32)
  is_query = rows.segment_ids == SHARED_SEGMENT
  total = jnp.sum(jnp.where(is_query[:, :, None], hidden, 0.0), axis=1)
  return total / jnp.maximum(jnp.sum(is_query, axis=1, keepdims=True), 1)


def _hidden_states(
  policy: Decoder, rows: Rows, num_responses: int, dropout_key: Key[Array, ""] | None
) -> Float[Array, "B T D"]:
  hidden, _ = policy(
    rows.tokens,
    rows.segment_ids,
    rows.positions,
    separate=num_responses == 1,
    dropout_key=dropout_key,
  )
  return hidden


def logprobs_of_hidden(
  policy: Decoder,
  hidden: Float[Array, "B T D"],
  rows: Rows,
  mask: Bool[Array, "B T"],
  num_responses: int,
) -> Float[Array, "B T"]:
  """`token_logprobs` from the final hidden states of rows that hold so many responses each."""
  # In a separate row it is everywhere the slot before, which takes no gathering.
  previous = None if num_responses == 1 else predicting_slots(rows.segment_ids)
  return token_logprobs(policy, hidden, rows.tokens, mask, previous)


def token_logprobs(
  policy: Decoder,
  hidden: Float[Array, "B T D"],
  tokens: Int[Array, "B T"],
  mask: Bool[Array, "B T"],
  previous: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T"]:
  """The log-probability of each token that `mask` marks, float32, 0 elsewhere.

  The token at slot t is predicted from the hidden state at slot `previous[t]`, where None stands
  for t - 1; the first has none. Where all logits would be more than `architecture.logits_at_once`,
  the marked tokens of every row are moved to its left and read in chunks, whose logits the backward
  pass computes again; chunks without marked tokens cost nothing.
  """
  targets, wanted = tokens[:, 1:], mask[:, 1:]
  batch, length = targets.shape
  mesh = jax.sharding.get_abstract_mesh()
  logits_a_slot = batch * policy.architecture.vocab_rows // max(math.prod(mesh.shape.values()), 1)
  # A power of two, as most counts of tokens are multiples of one: no chunk is nearly empty.
  width = 2 ** int(math.log2(max(policy.architecture.logits_at_once // logits_a_slot, 1)))
  if width >= length:
    before = hidden[:, :-1] if previous is None else _rows_at(hidden, previous[:, 1:])
    found = logprobs_of(policy.logits(before), targets, wanted)
  else:
    order = jnp.argsort(~wanted, axis=1, stable=True)
    # One gather moves them and finds what predicts them. In `targets` slot t stands at t - 1.
    sources = order if previous is None else jnp.take_along_axis(previous[:, 1:], order, axis=1)
    found = _by_chunks(
      policy,
      _rows_at(hidden, sources),
      jnp.take_along_axis(targets, order, axis=1),
      jnp.take_along_axis(wanted, order, axis=1),
      width,
    )
    found = jnp.take_along_axis(found, jnp.argsort(order, axis=1), axis=1)
  return jnp.pad(found, ((0, 0), (1, 0)))


def _rows_at(hidden: Float[Array, "B T D"], slots: Int[Array, "B K"]) -> Float[Array, "B K D"]:
  return jnp.take_along_axis(hidden, slots[..., None], axis=1)


def _by_chunks(
  policy: Decoder,
  hidden: Float[Array, "B K D"],
  targets: Int[Array, "B K"],
  wanted: Bool[Array, "B K"],
  width: int,
) -> Float[Array, "B K"]:
  """The wanted log-probabilities, `width` slots of every row at a time."""
  batch, length = targets.shape
  chunks = -(-length // width)

  def split(array: Array) -> Array:
    padding = [(0, 0), (0, chunks * width - length)] + [(0, 0)] * (array.ndim - 2)
    parts = jnp.pad(array, padding).reshape(batch, chunks, width, *array.shape[2:])
    return jnp.moveaxis(parts, 1, 0)

  parts = split(hidden), split(targets), split(wanted)
  found = logprobs_by_chunks(policy.architecture, parts[0], policy.table, *parts[1:])
  return jnp.moveaxis(found, 0, 1).reshape(batch, chunks * width)[:, :length]
