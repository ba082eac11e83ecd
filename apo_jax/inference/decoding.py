"""Responses from the policy: S samples a query, from one prefill, token by token.

`start` reads a batch of queries and draws every response's first token, `decode` draws some more;
both are pure, to be jitted. The random key of a token depends on its query's seed, the sample's
index and the token's alone, so the same query and seed give the same samples whatever batch they
are drawn in.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from apo_jax.config.schema import SamplerConfig
from apo_jax.devices import cpu
from apo_jax.models.cache import Cache, KeyValues, Place, new_cache
from apo_jax.models.decoder import Decoder
from apo_jax.rows.rows import PADDING_SEGMENT, SHARED_SEGMENT

# Tokens that are drawn from together; a decoder's logits are whole blocks.
VOCABULARY_BLOCK = 128


class QueryBatch(NamedTuple):
  """Queries padded on the right: tokens Int[B, Q], lengths Int[B], seeds UInt32[B, 2]."""

  tokens: Int[Array, "B Q"]
  lengths: Int[Array, "B"]
  seeds: UInt32[Array, "B 2"]


class Samples(NamedTuple):
  """S responses a query.

  Attributes:
    tokens: Int[B, S, M], 0 behind the end. What ended it is among them where it was sampled.
    logprobs: Float[B, S, M], float32, of each token under the policy itself (temperature 1,
      nothing filtered), 0 behind the end.
    lengths: Int[B, S], sampled tokens, the one that ended it included.
    finished: Bool[B, S], ended by a token that ends or by a stop string, not by the limit.
  """

  tokens: Int[Array, "B S M"]
  logprobs: Float[Array, "B S M"]
  lengths: Int[Array, "B S"]
  finished: Bool[Array, "B S"]


class Drawing(NamedTuple):
  """Responses while they are drawn, and what each needs for its next token.

  Attributes:
    samples: what has been drawn so far.
    live: Bool[B, S], not over: neither finished nor at the limit, nor padding.
    keys: UInt32[B, S, 2], the random key of each response.
    stop_state: Int[B, S], of the stop strings' automaton.
    seen: Bool[B, S, V], tokens of query and response; None without a repetition penalty.
  """

  samples: Samples
  live: Bool[Array, "B S"]
  keys: UInt32[Array, "B S 2"]
  stop_state: Int[Array, "B S"]
  seen: Bool[Array, "B S V"] | None


class State(NamedTuple):
  """A batch between two steps of decoding.

  Attributes:
    prompts, responses: keys and values, as in `Cache`.
    prompt_lengths: Int[B].
    drawing: the responses.
    clock: steps done since the first of these prompts was read.
  """

  prompts: tuple[KeyValues, ...]
  responses: tuple[KeyValues, ...]
  prompt_lengths: Int[Array, "B"]
  drawing: Drawing
  clock: Int[Array, ""]


# A temperature over which no logit below 1e18 leaves float32.
_OVERFLOWS_BELOW = 1e-20

# Draws the next token of every live response from its logits Float[B, S, V].
Choose = Callable[[Drawing, Array], Drawing]


def adjust_logits(
  logits: Float[Array, "*N V"], config: SamplerConfig, seen: Bool[Array, "*N V"] | None
) -> Float[Array, "*N V"]:
  """The logits that are sampled from: repetition penalty, temperature, top-k, top-p, in this order.

  The penalty divides positive and multiplies negative logits of tokens already in the query or
  response (CTRL, arXiv 1909.05858). Top-p keeps the fewest tokens whose probability reaches p.
  """
  if seen is not None:
    penalty = config.repetition_penalty
    penalised = jnp.where(logits > 0, logits / penalty, logits * penalty)
    logits = jnp.where(seen, penalised, logits)
  if config.temperature > 0:
    logits = _divided(logits, config.temperature)
  if config.top_k:
    lowest = jax.lax.top_k(logits, min(config.top_k, logits.shape[-1]))[0][..., -1:]
    logits = jnp.where(logits < lowest, -jnp.inf, logits)
  if config.top_p < 1:
    ordered = jnp.sort(logits, axis=-1, descending=True)
    probabilities = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    lowest = jnp.min(jnp.where(before < config.top_p, ordered, jnp.inf), axis=-1, keepdims=True)
    logits = jnp.where(logits < lowest, -jnp.inf, logits)
  return logits


def _divided(logits: Float[Array, "*N V"], temperature: float) -> Float[Array, "*N V"]:
  """The logits over a temperature above 0; below float32's least number it counts as that.

  Where the quotient may overflow, the largest logit is 0 first, which changes no probability.
  """
  if temperature < _OVERFLOWS_BELOW:
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
  return logits / max(temperature, float(jnp.finfo(jnp.float32).tiny))


def make_choose(
  config: SamplerConfig,
  *,
  ends: Collection[int],
  never_drawn: Collection[int],
  known_tokens: int,
  table: Int[Array, "states V"] | None,
) -> Choose:
  """The function that draws one token of every live response and writes it down.

  Args:
    config: the sampler's settings; temperature 0 is greedy.
    ends: the ids that end a response.
    never_drawn: ids that are never sampled, whatever the policy says of them.
    known_tokens: ids from here on are rows of the embedding that no token has; never sampled.
    table: the stop strings' automaton (`stopping.stop_table`), or None.
  """
  ending = np.array(sorted(ends), np.int32)

  def choose(drawing: Drawing, logits: Float[Array, "B S V"]) -> Drawing:
    samples, live = drawing.samples, drawing.live
    possible = np.arange(logits.shape[-1]) < known_tokens
    possible[list(never_drawn)] = False
    adjusted = adjust_logits(jnp.where(possible, logits, -jnp.inf), config, drawing.seen)
    if config.temperature == 0:
      token = jnp.argmax(adjusted, axis=-1)
    else:
      token = jax.vmap(jax.vmap(_draw))(drawing.keys, adjusted, samples.lengths)
    token = jnp.where(live, token, 0).astype(jnp.int32)
    chosen = jnp.take_along_axis(logits, token[..., None], axis=-1)[..., 0]
    logprob = chosen - jax.nn.logsumexp(logits, axis=-1)
    over, stop_state = jnp.isin(token, ending), drawing.stop_state
    if table is not None:
      stop_state = jnp.where(live, table[stop_state, token], stop_state)
      over = over | (stop_state == table.shape[0] - 1)
    seen = drawing.seen
    if seen is not None:
      rows = jnp.ogrid[: token.shape[0], : token.shape[1]]
      seen = seen.at[*rows, token].max(live)
    limit = samples.tokens.shape[-1]
    here = live[..., None] & (jnp.arange(limit) == samples.lengths[..., None])
    lengths = samples.lengths + live
    return Drawing(
      Samples(
        tokens=jnp.where(here, token[..., None], samples.tokens),
        logprobs=jnp.where(here, logprob[..., None], samples.logprobs),
        lengths=lengths,
        finished=samples.finished | (live & over),
      ),
      live=live & ~over & (lengths < limit),
      keys=drawing.keys,
      stop_state=stop_state,
      seen=seen,
    )

  return choose


def start(
  policy: Decoder,
  queries: QueryBatch,
  config: SamplerConfig,
  choose: Choose,
  *,
  cache_dtype: str,
  stacks: int = 1,
) -> State:
  """Reads the queries and draws the first token of `config.num_samples` responses to each.

  A row of length 0 is padding and gives no tokens. `stacks` are the cache's (`Cache`).
  """
  batch, width = queries.tokens.shape
  rows, limit = (batch, config.num_samples), config.max_new_tokens
  present = jnp.arange(width)[None, :] < queries.lengths[:, None]
  segments = jnp.where(present, SHARED_SEGMENT, PADDING_SEGMENT)
  positions = jnp.broadcast_to(jnp.arange(width), (batch, width))
  hidden, kept = policy(queries.tokens, segments, positions, separate=True, keep=True)
  last = jnp.maximum(queries.lengths - 1, 0)
  hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
  logits = policy.logits(hidden)
  vocabulary = logits.shape[-1]
  seen = None
  if config.repetition_penalty != 1:
    seen = jnp.zeros((batch, vocabulary), bool)
    seen = seen.at[jnp.arange(batch)[:, None], queries.tokens].max(present)
    seen = jnp.broadcast_to(seen[:, None], (*rows, vocabulary))
  drawing = Drawing(
    Samples(
      tokens=jnp.zeros((*rows, limit), jnp.int32),
      logprobs=jnp.zeros((*rows, limit), jnp.float32),
      lengths=jnp.zeros(rows, jnp.int32),
      finished=jnp.zeros(rows, bool),
    ),
    live=jnp.broadcast_to((queries.lengths > 0)[:, None], rows),
    keys=jax.vmap(_sample_keys, (0, None))(queries.seeds, config.num_samples),
    stop_state=jnp.zeros(rows, jnp.int32),
    seen=seen,
  )
  cache = new_cache(*kept, width=config.num_samples, slots=limit, dtype=cache_dtype, stacks=stacks)
  return State(
    prompts=cache.prompts,
    responses=cache.responses,
    prompt_lengths=queries.lengths,
    drawing=choose(drawing, jnp.broadcast_to(logits[:, None], (*rows, vocabulary))),
    clock=jnp.zeros((), jnp.int32),
  )


def decode(
  policy: Decoder,
  state: State,
  steps: int,
  choose: Choose,
  stacks: Sequence[Any] | None = None,
) -> State:
  """Draws up to `steps` more tokens of every live response; ends when none is live.

  `stacks` are the layers' parameters as `Decoder.step` takes them.
  """
  prompts, prompt_lengths, end = state.prompts, state.prompt_lengths, state.clock + steps

  def advance(carry: tuple) -> tuple:
    """Reads the newest token of every response, then draws the next."""
    responses, drawing, clock = carry
    samples = drawing.samples
    newest = jnp.maximum(samples.lengths - 1, 0)
    token = jnp.take_along_axis(samples.tokens, newest[..., None], axis=-1)[..., 0]
    ages = jnp.where(drawing.live, samples.lengths, 0)
    place = Place(prompt_lengths, ages, jnp.mod(clock, samples.tokens.shape[-1]))
    responses = cpu.with_shapes(responses, state.responses)
    hidden, cache = policy.step(token, place, Cache(prompts, responses), stacks)
    responses = cpu.without_unit_axes(cache.responses)
    return responses, choose(drawing, policy.logits(hidden)), clock + 1

  def unfinished(carry: tuple) -> Bool[Array, ""]:
    _, drawing, clock = carry
    return (clock < end) & jnp.any(drawing.live)

  carry = (cpu.without_unit_axes(state.responses), state.drawing, state.clock)
  responses, drawing, clock = jax.lax.while_loop(unfinished, advance, carry)
  responses = cpu.with_shapes(responses, state.responses)
  return state._replace(responses=responses, drawing=drawing, clock=clock)


def _sample_keys(seed: UInt32[Array, "2"], samples: int) -> UInt32[Array, "S 2"]:
  keys = jax.vmap(jax.random.fold_in, (None, 0))(_key(seed), jnp.arange(samples))
  return jax.random.key_data(keys)


def _draw(key: UInt32[Array, "2"], logits: Float[Array, "V"], at: Int[Array, ""]) -> Int[Array, ""]:
  """A token by its probability: first its block, then the token within it.

  That needs a random number for each block and each token of one, not for each of the vocabulary,
  which would take as long as the forward pass of a small model.
  """
  padding = -logits.shape[0] % VOCABULARY_BLOCK
  blocks = jnp.pad(logits, (0, padding), constant_values=-jnp.inf).reshape(-1, VOCABULARY_BLOCK)
  first, second = jax.random.split(jax.random.fold_in(_key(key), at))
  block = jax.random.categorical(first, jax.nn.logsumexp(blocks, axis=-1))
  return block * VOCABULARY_BLOCK + jax.random.categorical(second, blocks[block])


def _key(data: UInt32[Array, "2"]) -> Key[Array, ""]:
  return jax.random.wrap_key_data(data, impl="threefry2x32")
