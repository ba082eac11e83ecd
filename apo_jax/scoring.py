"""Rewards and log-probabilities of many sequences, in large forward-only batches."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from apo_jax.data.rows import Response, Rows, flatten, make_rows
from apo_jax.models.definition import Definition, Parameters
from apo_jax.models.logprobs import sequence_logprobs
from apo_jax.sharding import local_rows, named, place_batch

TokenSequence = tuple[Sequence[int], Response]  # query ids with bos, and one response


class Scorer:
  """One float32 number a sequence, for any number of sequences, with one compiled shape.

  Every process calls it with the same sequences; each computes the rows of its own devices, and
  each gets all results.
  """

  def __init__(
    self,
    definition: Definition,
    score: Callable[[Parameters, Rows], Float[Array, "N"]],
    mesh: Mesh,
    *,
    batch_size: int,
    length: int,
    eos: int,
  ):
    self._mesh = mesh
    self._batch_size = batch_size
    self._length = length
    self._eos = eos
    self._score = jax.jit(
      score,
      in_shardings=(definition.shardings, named(mesh, "batch")),
      out_shardings=named(mesh),
    )

  def __call__(
    self,
    parameters: Parameters,
    sequences: Sequence[TokenSequence],
    on_batch: Callable[[int], None] = lambda done: None,
  ) -> np.ndarray:
    """Float32[sequences]: the score of each (query ids, response)."""
    rows = local_rows(self._mesh, self._batch_size)
    scores = np.zeros((len(sequences),), np.float32)
    for start in range(0, len(sequences), self._batch_size):
      part = sequences[start : start + self._batch_size]
      padded = [*part, *[((), None)] * (self._batch_size - len(part))]
      items = [(padded[row][0], [padded[row][1]]) for row in rows]
      local = flatten(make_rows(items, 1, self._length, self._eos))
      batch = place_batch(self._mesh, local, self._batch_size)
      result = np.asarray(self._score(parameters, batch))
      scores[start : start + len(part)] = result[: len(part)]
      on_batch(len(part))
    return scores


def make_reward_scorer(definition: Definition, mesh: Mesh, **shape: int) -> Scorer:
  """A scorer of r(x, y); `shape` is the scorer's batch_size, length and eos."""

  def score(parameters: Parameters, rows: Rows) -> Float[Array, "N"]:
    return definition.bind(parameters)(rows.tokens, rows.segment_ids, rows.positions)

  return Scorer(definition, score, mesh, **shape)


def make_logprob_scorer(definition: Definition, mesh: Mesh, **shape: int) -> Scorer:
  """A scorer of log pi(y|x); `shape` is the scorer's batch_size, length and eos."""

  def score(parameters: Parameters, rows: Rows) -> Float[Array, "N"]:
    return sequence_logprobs(definition.bind(parameters), rows)

  return Scorer(definition, score, mesh, **shape)
