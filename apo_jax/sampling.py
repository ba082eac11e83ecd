"""Responses from the policy: S samples a query, from one prefill, in one jitted loop.

The random key of a sample depends on its query's seed and the sample's index alone, so the same
query and seed give the same samples whatever batch they are drawn in.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from apo_jax.config import SamplerConfig
from apo_jax.data.rows import PADDING_SEGMENT, SHARED_SEGMENT
from apo_jax.models.decoder import Cache, Decoder, empty_cache
from apo_jax.sharding import constrain


class QueryBatch(NamedTuple):
  """Queries padded on the right: tokens Int[B, Q], lengths Int[B], seeds UInt32[B, 2]."""

  tokens: Int[Array, "B Q"]
  lengths: Int[Array, "B"]
  seeds: UInt32[Array, "B 2"]


class Samples(NamedTuple):
  """S responses a query.

  Attributes:
    tokens: Int[B, S, M], 0 behind the end. eos is among them where it was sampled.
    logprobs: Float[B, S, M], float32, of each token under the policy itself (temperature 1,
      nothing filtered), 0 behind the end.
    lengths: Int[B, S], sampled tokens, eos included.
    finished: Bool[B, S], ended by eos or a stop string, not by the limit.
  """

  tokens: Int[Array, "B S M"]
  logprobs: Float[Array, "B S M"]
  lengths: Int[Array, "B S"]
  finished: Bool[Array, "B S"]


class _State(NamedTuple):
  """What the loop carries. N = B * S rows."""

  step: Int[Array, ""]  # tokens sampled so far
  tokens: Int[Array, "N M"]
  logprobs: Float[Array, "N M"]
  lengths: Int[Array, "N"]
  done: Bool[Array, "N"]
  stop_state: Int[Array, "N"]
  seen: Bool[Array, "N V"] | None  # for the repetition penalty alone
  cache: Cache


def adjust_logits(
  logits: Float[Array, "N V"], config: SamplerConfig, seen: Bool[Array, "N V"] | None
) -> Float[Array, "N V"]:
  """The logits that are sampled from: repetition penalty, temperature, top-k, top-p, in this order.

  The penalty divides positive and multiplies negative logits of tokens already in the query or
  response (CTRL, arXiv 1909.05858). Top-p keeps the fewest tokens whose probability reaches p.
  """
  if seen is not None:
    penalty = config.repetition_penalty
    penalised = jnp.where(logits > 0, logits / penalty, logits * penalty)
    logits = jnp.where(seen, penalised, logits)
  if config.temperature > 0:
    logits = logits / config.temperature
  if config.top_k:
    lowest = jax.lax.top_k(logits, min(config.top_k, logits.shape[-1]))[0][:, -1:]
    logits = jnp.where(logits < lowest, -jnp.inf, logits)
  if config.top_p < 1:
    ordered = jnp.sort(logits, axis=-1, descending=True)
    probabilities = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    lowest = jnp.min(jnp.where(before < config.top_p, ordered, jnp.inf), axis=-1, keepdims=True)
    logits = jnp.where(logits < lowest, -jnp.inf, logits)
  return logits


def sample(
  policy: Decoder,
  queries: QueryBatch,
  config: SamplerConfig,
  *,
  eos: int,
  known_tokens: int,
  table: Int[Array, "states V"] | None,
) -> Samples:
  """Draws `config.num_samples` responses a query; pure, to be jitted with static keywords.

  Args:
    policy: the decoder with its parameters.
    queries: a batch of queries. A row of length 0 is padding and gives no tokens.
    config: the sampler's settings; temperature 0 is greedy.
    eos: the id that ends a response.
    known_tokens: ids from here on are rows of the embedding that no token has; never sampled.
    table: the stop strings' automaton (`stopping.stop_table`), or None.
  """
  batch, width = queries.tokens.shape
  samples, limit = config.num_samples, config.max_new_tokens
  rows = batch * samples
  present = jnp.arange(width)[None, :] < queries.lengths[:, None]
  segments = jnp.where(present, SHARED_SEGMENT, PADDING_SEGMENT)
  positions = jnp.broadcast_to(jnp.arange(width), (batch, width))
  cache = empty_cache(policy.architecture, batch, width + limit)
  hidden, cache = policy(queries.tokens, segments, positions, cache, 0)
  last = jnp.maximum(queries.lengths - 1, 0)
  hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]

  def repeat(array: jax.Array, axis: int = 0) -> jax.Array:
    return jnp.repeat(array, samples, axis=axis)

  logits = repeat(policy.logits(hidden))
  vocabulary = logits.shape[-1]
  keys = jax.vmap(_sample_keys, (0, None))(queries.seeds, samples).reshape(rows)
  lengths = repeat(queries.lengths)
  seen = None
  if config.repetition_penalty != 1:
    seen = jnp.zeros((batch, vocabulary), bool)
    seen = repeat(seen.at[jnp.arange(batch)[:, None], queries.tokens].max(present))
  state = _State(
    step=jnp.zeros((), jnp.int32),
    tokens=jnp.zeros((rows, limit), jnp.int32),
    logprobs=jnp.zeros((rows, limit), jnp.float32),
    lengths=jnp.zeros((rows,), jnp.int32),
    done=repeat(queries.lengths == 0),
    stop_state=jnp.zeros((rows,), jnp.int32),
    seen=seen,
    cache=Cache(
      repeat(cache.keys, 1),
      repeat(cache.values, 1),
      repeat(cache.segment_ids),
      repeat(cache.positions),
    ),
  )

  def choose(state: _State, logits: Float[Array, "N V"]) -> _State:
    """Samples each live row's next token and writes it down."""
    possible = jnp.where(jnp.arange(vocabulary) < known_tokens, logits, -jnp.inf)
    adjusted = adjust_logits(possible, config, state.seen)
    if config.temperature == 0:
      token = jnp.argmax(adjusted, axis=-1)
    else:
      token = jax.vmap(_draw, (0, 0, None))(keys, adjusted, state.step)
    token = jnp.where(state.done, 0, token).astype(jnp.int32)
    logprob = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), token[:, None], 1)[:, 0]
    logprob = jnp.where(state.done, 0.0, logprob)
    done = state.done | (token == eos)
    stop_state = state.stop_state
    if table is not None:
      stop_state = jnp.where(state.done, stop_state, table[stop_state, token])
      done = done | (stop_state == table.shape[0] - 1)
    seen = state.seen
    if seen is not None:
      seen = seen.at[jnp.arange(rows), token].max(~state.done)
    return state._replace(
      step=state.step + 1,
      tokens=jax.lax.dynamic_update_slice_in_dim(state.tokens, token[:, None], state.step, 1),
      logprobs=jax.lax.dynamic_update_slice_in_dim(state.logprobs, logprob[:, None], state.step, 1),
      lengths=state.lengths + ~state.done,
      done=done,
      stop_state=stop_state,
      seen=seen,
    )

  def advance(state: _State) -> _State:
    """Reads the newest token of every row, then samples the next."""
    newest = state.step - 1
    token = jax.lax.dynamic_slice_in_dim(state.tokens, newest, 1, axis=1)
    position = (lengths + newest)[:, None]
    segment = jnp.full((rows, 1), SHARED_SEGMENT)
    hidden, cache = policy(token, segment, position, state.cache, width + newest)
    return choose(state._replace(cache=cache), policy.logits(hidden[:, 0]))

  def unfinished(state: _State) -> Bool[Array, ""]:
    return (state.step < limit) & ~jnp.all(state.done)

  state = jax.lax.while_loop(unfinished, advance, choose(state, logits))

  def group(array: jax.Array) -> jax.Array:
    return constrain(array.reshape(batch, samples, *array.shape[1:]), "batch")

  return Samples(
    group(state.tokens), group(state.logprobs), group(state.lengths), group(state.done)
  )


def _sample_keys(seed: UInt32[Array, "2"], samples: int) -> Key[Array, "S"]:
  return jax.vmap(jax.random.fold_in, (None, 0))(
    jax.random.wrap_key_data(seed, impl="threefry2x32"), jnp.arange(samples)
  )


def _draw(key: Key[Array, ""], logits: Float[Array, "V"], step: Int[Array, ""]) -> Int[Array, ""]:
  return jax.random.categorical(jax.random.fold_in(key, step), logits)
