"""Rewards and log-probabilities of many sequences, in large forward-only batches."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jax.stages import Lowered
from jaxtyping import Array, Float

from apo_jax.data.rows import Response, Rows, flatten, make_rows
from apo_jax.models.definition import Definition, Parameters
from apo_jax.models.logprobs import sequence_logprobs
from apo_jax.sharding import local_rows, named, place_batch

TokenSequence = tuple[Sequence[int], Response]  # query ids with bos, and one response


class Scorer:
  """One float32 number a sequence, for any number of sequences.

  One function is compiled a padded length; a sequence takes the shortest that holds it. Every
  process calls it with the same sequences; each computes the rows of its own devices, and each gets
  all results.
  """

  def __init__(
    self,
    definition: Definition,
    score: Callable[[Parameters, Rows], Float[Array, "N"]],
    mesh: Mesh,
    *,
    batch_size: int,
    lengths: Sequence[int],
    eos: int,
  ):
    self._definition = definition
    self._mesh = mesh
    self._batch_size = batch_size
    self._lengths = sorted(set(lengths))
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
    """Float32[sequences]: the score of each (query ids, response).

    Raises:
      ValueError: a sequence with its eos is longer than the longest padded length.
    """
    scores = np.zeros((len(sequences),), np.float32)
    needed = np.array([len(query) + len(response.tokens) + 1 for query, response in sequences])
    if len(sequences) and needed.max() > self._lengths[-1]:
      raise ValueError(f"a sequence has {needed.max()} tokens, a row at most {self._lengths[-1]}.")
    places = np.searchsorted(self._lengths, needed)
    for place, length in enumerate(self._lengths):
      chosen = np.flatnonzero(places == place)
      for start in range(0, len(chosen), self._batch_size):
        indices = chosen[start : start + self._batch_size]
        part = [sequences[index] for index in indices]
        scores[indices] = self._score_part(parameters, part, length)
        on_batch(len(part))
    return scores

  def lowered(self, length: int) -> Lowered:
    """What is compiled for a padded length, without data."""
    size = self._batch_size
    rows = flatten(make_rows([((), [None])] * size, 1, length, self._eos))
    abstract = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), rows)
    return self._score.lower(self._definition.abstract, abstract)

  def _score_part(
    self, parameters: Parameters, part: Sequence[TokenSequence], length: int
  ) -> np.ndarray:
    padded = [*part, *[((), None)] * (self._batch_size - len(part))]
    rows = local_rows(self._mesh, self._batch_size)
    items = [(padded[row][0], [padded[row][1]]) for row in rows]
    local = flatten(make_rows(items, 1, length, self._eos))
    batch = place_batch(self._mesh, local, self._batch_size)
    return np.asarray(self._score(parameters, batch))[: len(part)]


def make_reward_scorer(
  definition: Definition, mesh: Mesh, *, batch_size: int, lengths: Sequence[int], eos: int
) -> Scorer:
  """A scorer of r(x, y)."""

  def score(parameters: Parameters, rows: Rows) -> Float[Array, "N"]:
    return definition.bind(parameters)(rows.tokens, rows.segment_ids, rows.positions)

  return Scorer(definition, score, mesh, batch_size=batch_size, lengths=lengths, eos=eos)


def make_logprob_scorer(
  definition: Definition, mesh: Mesh, *, batch_size: int, lengths: Sequence[int], eos: int
) -> Scorer:
  """A scorer of log pi(y|x)."""

  def score(parameters: Parameters, rows: Rows) -> Float[Array, "N"]:
    return sequence_logprobs(definition.bind(parameters), rows)

  return Scorer(definition, score, mesh, batch_size=batch_size, lengths=lengths, eos=eos)
