"""Samples of any number of queries: batches of a few fixed shapes, each process its own rows."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.stages import Lowered

from apo_jax.config.schema import SamplerConfig
from apo_jax.data.tokens import Codec
from apo_jax.devices.sharding import batch_shards, local_rows, named, place_batch
from apo_jax.inference import stopping
from apo_jax.inference.decoding import QueryBatch, Samples, State, decode, make_choose, start
from apo_jax.inference.decoding_weights import DecodingWeights, decoding_form
from apo_jax.inference.packing import NOBODY, STEPS_WORTH_PACKING, Batch, fits, pack, shapes
from apo_jax.models.definition import Definition, Parameters
from apo_jax.rows.rows import Response

# Steps of decoding between two looks at which rows are over.
STEPS_A_CALL = 8


class SampledResponse(NamedTuple):
  """One response as the sampler drew it.

  Attributes:
    response: its ids without what ended it, and whether it ended by itself. What a stop string or
      another end than eos ended counts as finished: it is scored, and trained on, as if eos stood
      there.
    logprob: log pi(y|x) of all that was sampled, end or stop string included, at temperature 1.
  """

  response: Response
  logprob: float


class _Functions(NamedTuple):
  """What is compiled for one sampler configuration, once a bucket and shape of the batch.

  Attributes:
    start: weights and queries to a `State`.
    decode: weights and a `State` to the state some steps later, and a copy of its samples and live
      rows for every process.
  """

  start: Callable[[DecodingWeights, QueryBatch], State]
  decode: Callable[[DecodingWeights, State], tuple[State, tuple[Samples, jax.Array]]]


class _Task(NamedTuple):
  """One call of the sampler: what it was given, and by query the samples that are over."""

  weights: DecodingWeights
  queries: Sequence[Sequence[int]]
  seeds: np.ndarray
  config: SamplerConfig
  results: list[dict[int, SampledResponse]]


class Sampler:
  """Samples any number of queries: buckets their lengths, fills batches, gathers the results.

  Decoding stops every few steps. Rows that are over leave the batch then: waiting queries join it
  where half of the batch is free, and with none waiting it shrinks (`packing`).

  `cache_dtype` is the type of cached keys and values, `gather_weights` keeps no weight split along
  the mesh's fsdp axis while it samples (`decoding_weights`).

  Every process calls it with the same queries; each computes the rows of its own devices, and each
  gets all results.
  """

  def __init__(
    self,
    definition: Definition,
    codec: Codec,
    mesh: Mesh,
    *,
    buckets: Sequence[int],
    batch_size: int,
    cache_dtype: str = "float32",
    gather_weights: bool = False,
  ):
    self.codec = codec
    self.mesh = mesh
    self.buckets = buckets
    self.batch_size = batch_size
    self._shards = batch_shards(mesh)
    # Queries are read half a batch at a time, so that they can join a batch half of which is over.
    halves = batch_size % (2 * self._shards) == 0
    self.start_size = batch_size // 2 if halves else batch_size
    self._texts = codec.texts()
    self.form = decoding_form(definition, mesh, gather=gather_weights)
    self._cache_dtype = cache_dtype
    self._made: dict[SamplerConfig, _Functions] = {}

  def __call__(
    self,
    parameters: Parameters,
    queries: Sequence[Sequence[int]],
    seeds: np.ndarray,
    config: SamplerConfig,
    on_batch: Callable[[int], None] = lambda done: None,
  ) -> list[list[SampledResponse]]:
    """Responses in the order of `queries`; `seeds` is UInt32[queries, 2] (`seeds.derive_key`).

    `on_batch` hears every few steps how many more queries have all their responses.

    Raises:
      ValueError: a query is longer than the last bucket.
    """
    longest = max(map(len, queries), default=0)
    if longest > self.buckets[-1]:
      raise ValueError(f"a query has {longest} tokens, the longest bucket {self.buckets[-1]}.")
    task = _Task(self.form(parameters), queries, seeds, config, [{} for _ in queries])
    for width in self.buckets:
      shorter = max((bucket for bucket in self.buckets if bucket < width), default=-1)
      chosen = [i for i, query in enumerate(queries) if shorter < len(query) <= width]
      for ended in self._draw(task, width, chosen):
        on_batch(ended)
    return [[result[column] for column in range(config.num_samples)] for result in task.results]

  def lowered(self, config: SamplerConfig, width: int) -> tuple[Lowered, Lowered]:
    """What is compiled for a bucket, without data: reading half a batch, and a batch's steps."""
    functions, weights = self._functions(config), self.form.abstract

    def queries(size: int) -> QueryBatch:
      fields = ((size, width), np.int32), ((size,), np.int32), ((size, 2), np.uint32)
      return QueryBatch(*(jax.ShapeDtypeStruct(*field) for field in fields))

    # Shapes alone: `decode` has its own layouts.
    state = jax.eval_shape(functions.start, weights, queries(self.batch_size))
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    first = functions.start.lower(weights, queries(self.start_size))
    return first, functions.decode.lower(weights, state)

  def _draw(self, task: _Task, width: int, indices: list[int]) -> Iterator[int]:
    """Draws the responses to queries of one bucket; says how many queries every few steps end."""
    functions, config = self._functions(task.config), task.config
    waiting = deque(sorted(indices, key=lambda index: len(task.queries[index])))
    batch, shortest = None, 0
    while waiting or batch is not None:
      new = []
      for _ in range(min(self._room(batch), -(-len(waiting) // self.start_size))):
        count = min(self.start_size, len(waiting))
        new.append(self._started(task, width, [waiting.popleft() for _ in range(count)]))
      steps = config.max_new_tokens - (1 if new else shortest)
      batch = self._packed(([] if batch is None else [batch]) + new, steps, config)
      state, shared = functions.decode(task.weights, batch.state)
      samples, live = jax.tree.map(np.asarray, shared)
      over = (batch.queries != NOBODY) & ~live
      for group, row in np.argwhere(over).tolist():
        results = task.results[batch.queries[group, row]]
        results[int(batch.columns[group, row])] = self._response(samples, group, row, config)
      ended = np.unique(batch.queries[over]).tolist()
      yield sum(len(task.results[query]) == config.num_samples for query in ended)
      batch = Batch(state, np.where(over, NOBODY, batch.queries), batch.columns)
      if live.any():
        shortest = int(samples.lengths[live].min())
      else:
        batch = None

  def _started(self, task: _Task, width: int, indices: list[int]) -> Batch:
    """A batch of `start_size` queries, each with its first tokens."""
    size, samples = self.start_size, task.config.num_samples
    tokens = np.zeros((size, width), np.int32)
    lengths = np.zeros((size,), np.int32)
    seeds = np.zeros((size, 2), np.uint32)
    owners = np.full((size, samples), NOBODY)
    for row, index in enumerate(indices):
      query = task.queries[index]
      tokens[row, : len(query)] = query
      lengths[row] = len(query)
      seeds[row] = task.seeds[index]
      owners[row] = index
    rows = local_rows(self.mesh, size)
    local = QueryBatch(tokens[rows], lengths[rows], seeds[rows])
    placed = place_batch(self.mesh, local, size)
    state = self._functions(task.config).start(task.weights, placed)
    return Batch(state, owners, np.broadcast_to(np.arange(samples), owners.shape))

  def _room(self, batch: Batch | None) -> int:
    """How many times `start_size` queries can join a batch."""
    if batch is None:
      return self.batch_size // self.start_size
    shards = batch.queries.reshape(self._shards, -1)
    taken = max(len(set(shard[shard != NOBODY].tolist())) for shard in shards)
    return (self.batch_size // self._shards - taken) // (self.start_size // self._shards)

  def _packed(self, batches: list[Batch], steps: int, config: SamplerConfig) -> Batch:
    """One batch of these, in the smallest shape that is worth it for so many more steps."""
    allowed = shapes(self.batch_size, config.num_samples, self._shards)
    current = batches[0].shape
    if steps < STEPS_WORTH_PACKING:
      allowed = allowed[:1] if len(batches) > 1 or current not in allowed else [current]
    owners = [batch.queries for batch in batches]
    shape = [shape for shape in allowed if fits(owners, shape, self._shards)][-1]
    if len(batches) == 1 and shape == current:
      return batches[0]
    return pack(batches, shape, self._shards)

  def _functions(self, config: SamplerConfig) -> _Functions:
    if config in self._made:
      return self._made[config]
    form = self.form
    table = stopping.stop_table(self._texts, config.stop)
    table = None if table is None else jnp.asarray(table)
    choose = make_choose(
      config,
      ends=self.codec.ends,
      never_drawn=self.codec.never_drawn,
      known_tokens=self.codec.size,
      table=table,
    )

    def begin(weights: DecodingWeights, batch: QueryBatch) -> State:
      policy = form.definition.bind(weights.whole())
      dtype, stacks = self._cache_dtype, form.stacks
      return start(policy, batch, config, choose, cache_dtype=dtype, stacks=stacks)

    def proceed(weights: DecodingWeights, state: State):
      policy = form.definition.bind(weights.whole())
      state = decode(policy, state, STEPS_A_CALL, choose, weights.stacks)
      return state, (state.drawing.samples, state.drawing.live)

    mesh = self.mesh
    layouts = State(
      prompts=named(mesh, "layers", "batch", "kv_heads"),
      responses=named(mesh, "layers", "batch", None, "kv_heads"),
      prompt_lengths=named(mesh, "batch"),
      drawing=named(mesh, "batch"),
      clock=named(mesh),
    )
    self._made[config] = _Functions(
      jax.jit(begin, in_shardings=(form.shardings, named(mesh, "batch")), out_shardings=layouts),
      jax.jit(
        proceed,
        in_shardings=(form.shardings, layouts),
        out_shardings=(layouts, named(mesh)),
        donate_argnums=1,
      ),
    )
    return self._made[config]

  def _response(
    self, samples: Samples, group: int, row: int, config: SamplerConfig
  ) -> SampledResponse:
    length = samples.lengths[group, row]
    tokens = samples.tokens[group, row, :length].tolist()
    logprob = float(np.sum(samples.logprobs[group, row, :length]))
    finished = bool(samples.finished[group, row])
    drew_end = tokens[-1:] == [self.codec.eos]
    if tokens and tokens[-1] in self.codec.ends:
      tokens = tokens[:-1]
    elif finished:
      tokens = stopping.tokens_before_stop(self.codec, tokens, self._texts, config.stop)
      # What is left of a token may take several, for which rows have no room.
      tokens = tokens[: config.max_new_tokens]
    return SampledResponse(Response(tokens, finished, drew_end), logprob)
