"""Samples of any number of queries: batches of a few fixed shapes, each process its own rows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from apo_jax import stopping
from apo_jax.config import SamplerConfig
from apo_jax.data.rows import Response
from apo_jax.data.tokens import Codec
from apo_jax.models.definition import Definition, Parameters
from apo_jax.sampling import QueryBatch, Samples, sample
from apo_jax.sharding import local_rows, named, place_batch


class SampledResponse(NamedTuple):
  """One response as the sampler drew it.

  Attributes:
    response: its ids without eos and stop string, and whether it ended by itself. What a stop
      string ended counts as finished: it is scored, and trained on, as if eos stood there.
    logprob: log pi(y|x) of all that was sampled, eos or stop string included, at temperature 1.
  """

  response: Response
  logprob: float


class Sampler:
  """Samples any number of queries: buckets their lengths, pads batches, gathers the results.

  One function is compiled a bucket. Every process calls it with the same queries; each computes
  the rows of its own devices, and each gets all results.
  """

  def __init__(
    self,
    definition: Definition,
    codec: Codec,
    mesh: Mesh,
    *,
    buckets: Sequence[int],
    batch_size: int,
  ):
    self.codec = codec
    self.mesh = mesh
    self.buckets = buckets
    self.batch_size = batch_size
    self._texts = codec.texts()
    self._definition = definition
    self._jitted: dict[SamplerConfig, Callable[..., Samples]] = {}

  def __call__(
    self,
    parameters: Parameters,
    queries: Sequence[Sequence[int]],
    seeds: np.ndarray,
    config: SamplerConfig,
    on_batch: Callable[[int], None] = lambda done: None,
  ) -> list[list[SampledResponse]]:
    """Responses in the order of `queries`; `seeds` is UInt32[queries, 2] (`seeds.derive_key`).

    `on_batch` hears after each sampler call how many queries it answered.

    Raises:
      ValueError: a query is longer than the last bucket.
    """
    longest = max(map(len, queries), default=0)
    if longest > self.buckets[-1]:
      raise ValueError(f"a query has {longest} tokens, the longest bucket {self.buckets[-1]}.")
    results: list[list[SampledResponse]] = [[] for _ in queries]
    for width in self.buckets:
      shorter = max((bucket for bucket in self.buckets if bucket < width), default=-1)
      chosen = [i for i, query in enumerate(queries) if shorter < len(query) <= width]
      for start in range(0, len(chosen), self.batch_size):
        indices = chosen[start : start + self.batch_size]
        batch = self._batch([queries[i] for i in indices], seeds[indices], width)
        samples = jax.tree.map(np.asarray, self._function(config)(parameters, batch))
        for row, index in enumerate(indices):
          results[index] = [
            self._response(samples, row, column, config) for column in range(config.num_samples)
          ]
        on_batch(len(indices))
    return results

  def _function(self, config: SamplerConfig) -> Callable[..., Samples]:
    if config not in self._jitted:
      table = stopping.stop_table(self._texts, config.stop)
      table = None if table is None else jnp.asarray(table)

      def run(parameters: Parameters, batch: QueryBatch) -> Samples:
        return sample(
          self._definition.bind(parameters),
          batch,
          config,
          eos=self.codec.eos,
          known_tokens=self.codec.size,
          table=table,
        )

      self._jitted[config] = jax.jit(
        run,
        in_shardings=(self._definition.shardings, named(self.mesh, "batch")),
        out_shardings=named(self.mesh),
      )
    return self._jitted[config]

  def _batch(self, queries: list[Sequence[int]], seeds: np.ndarray, width: int) -> QueryBatch:
    tokens = np.zeros((self.batch_size, width), np.int32)
    lengths = np.zeros((self.batch_size,), np.int32)
    padded_seeds = np.zeros((self.batch_size, 2), np.uint32)
    padded_seeds[: len(queries)] = seeds
    for row, query in enumerate(queries):
      tokens[row, : len(query)] = query
      lengths[row] = len(query)
    rows = local_rows(self.mesh, self.batch_size)
    local = QueryBatch(tokens[rows], lengths[rows], padded_seeds[rows])
    return place_batch(self.mesh, local, self.batch_size)

  def _response(
    self, samples: Samples, row: int, column: int, config: SamplerConfig
  ) -> SampledResponse:
    length = samples.lengths[row, column]
    tokens = samples.tokens[row, column, :length].tolist()
    logprob = float(np.sum(samples.logprobs[row, column, :length]))
    finished = bool(samples.finished[row, column])
    if tokens and tokens[-1] == self.codec.eos:
      tokens = tokens[:-1]
    elif finished:
      tokens = stopping.tokens_before_stop(tokens, self._texts, config.stop)
    return SampledResponse(Response(tokens, finished), logprob)
