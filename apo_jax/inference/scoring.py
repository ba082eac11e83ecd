"""Rewards and log-probabilities of many sequences, in large forward-only batches."""

import collections
import functools
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.stages import Lowered
from jaxtyping import Array, Float

from apo_jax.devices.sharding import batch_shards, local_rows, named, place_batch
from apo_jax.models.definition import Definition, Parameters
from apo_jax.models.logprobs import sequence_logprobs
from apo_jax.models.reward_model import RewardModel
from apo_jax.models.row_cost import row_flops
from apo_jax.rows.layouts import RowLayout, choose_layout
from apo_jax.rows.reading import as_sequences
from apo_jax.rows.rows import Item, Response, Rows


class NotFinite(RuntimeError):
  """A score is not a number."""


TokenSequence = tuple[Sequence[int], Response]  # query ids with bos, and one response


class Scorer:
  """One float32 number a sequence, or `width` of them, for any number of sequences.

  Sequences of one query that stand side by side share rows where that pays, and equal ones are one:
  scored once, they get the very same number. One function is compiled a padded length and number
  of responses a row; a row takes the shortest length that holds it. Every process calls it with the
  same sequences; each computes the rows of its own devices, and each gets all results.

  Args:
    definition: the model.
    score: what the model, its parameters bound, says of rows that hold so many responses each.
    identity: what `score` reads of a response: two of one identity are one.
    mesh: the device mesh.
    batch_size: sequences a call.
    query_length: tokens of the longest query.
    lengths: padded lengths of rows that hold one sequence.
    eos: the id behind every response.
    width: how many numbers `score` says of a sequence, as its last axis; None is one, without.
  """

  def __init__(
    self,
    definition: Definition,
    score: Callable[[Any, Rows, int], Float[Array, "N R *width"]],
    identity: Callable[[Response], Hashable],
    mesh: Mesh,
    *,
    batch_size: int,
    query_length: int,
    lengths: Sequence[int],
    eos: int,
    width: int | None = None,
  ):
    self._definition = definition
    self._identity = identity
    self._mesh = mesh
    self._batch_size = batch_size
    self._query_length = query_length
    self._lengths = sorted(set(lengths))
    self._eos = eos
    self._shape = () if width is None else (width,)

    def bound(parameters: Parameters, rows: Rows, num_responses: int) -> Float[Array, "N R *width"]:
      return score(definition.bind(parameters), rows, num_responses)

    self._score = jax.jit(
      bound,
      static_argnums=2,
      in_shardings=(definition.shardings, named(mesh, "batch")),
      out_shardings=named(mesh),
    )

  def __call__(
    self,
    parameters: Parameters,
    sequences: Sequence[TokenSequence],
    on_batch: Callable[[int], None] = lambda done: None,
  ) -> np.ndarray:
    """Float32[sequences], or [sequences, width]: the score of each (query ids, response).

    Raises:
      ValueError: a sequence with its eos is longer than the longest padded length.
    """
    longest = max((len(query) + one.num_slots for query, one in sequences), default=0)
    if longest > self._lengths[-1]:
      raise ValueError(f"a sequence has {longest} tokens, a row at most {self._lengths[-1]}.")
    # By all of them, so that how many are equal does not decide what is compiled.
    layout = self.layout(usual_responses(sequences))
    firsts, numbers = distinct(sequences, self._identity)
    equals = np.bincount(numbers, minlength=len(firsts))
    places, items = layout_items([sequences[index] for index in firsts], layout)
    buckets = np.searchsorted(layout.lengths, [layout.needed(item) for item in items])
    scores = np.zeros((len(firsts), *self._shape), np.float32)
    rows = self.rows_a_call(layout)
    for bucket in range(len(layout.lengths)):
      chosen = np.flatnonzero(buckets == bucket)
      for start in range(0, len(chosen), rows):
        some = chosen[start : start + rows]
        found = self._score_items(parameters, [items[row] for row in some], layout, bucket)
        for row, values in zip(some, found, strict=True):
          scores[places[row]] = values[: len(places[row])]
        on_batch(sum(int(equals[places[row]].sum()) for row in some))
    return scores[numbers]

  def layout(self, num_responses: int) -> RowLayout:
    """The rows of a call whose queries have so many responses each."""
    flops = functools.partial(row_flops, self._definition.architecture)
    layout = choose_layout(flops, num_responses, self._query_length, self._lengths)
    return layout if layout.shared else RowLayout(1, False, layout.lengths)

  def rows_a_call(self, layout: RowLayout) -> int:
    """Rows that hold `batch_size` sequences and can be split over the devices."""
    shards = batch_shards(self._mesh)
    rows = -(-self._batch_size // layout.num_responses)
    return -(-rows // shards) * shards

  def lowered(self, layout: RowLayout, bucket: int) -> Lowered:
    """What is compiled for a padded length of a layout, without data."""
    items = [((), ())] * self.rows_a_call(layout)
    rows, held = as_sequences(layout.rows(items, bucket, self._eos), layout.num_responses)
    abstract = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), rows)
    return self._score.lower(self._definition.abstract, abstract, held)

  def _score_items(
    self, parameters: Parameters, items: Sequence[Item], layout: RowLayout, bucket: int
  ) -> np.ndarray:
    """Float32[items, R], or [items, R, width]."""
    size = self.rows_a_call(layout)
    padded = [*items, *[((), ())] * (size - len(items))]
    local = [padded[row] for row in local_rows(self._mesh, size)]
    rows, held = as_sequences(layout.rows(local, bucket, self._eos), layout.num_responses)
    batch = place_batch(self._mesh, rows, size)
    return np.asarray(self._score(parameters, batch, held))[: len(items)]


def usual_responses(sequences: Sequence[TokenSequence]) -> int:
  """How many sequences of one query most often stand side by side; of equals, the larger number."""
  runs = collections.Counter(len(run) for run in _runs(sequences))
  return max(runs, key=lambda size: (runs[size], size), default=1)


def distinct(
  sequences: Sequence[TokenSequence], identity: Callable[[Response], Hashable]
) -> tuple[list[int], list[int]]:
  """The first of all equal sequences, and for each sequence the number of its first among those.

  Only sequences of one query that stand side by side are compared.
  """
  firsts: list[int] = []
  numbers: list[int] = []
  for run in _runs(sequences):
    known: dict[Hashable, int] = {}
    for index in run:
      key = identity(sequences[index][1])
      if key not in known:
        known[key] = len(firsts)
        firsts.append(index)
      numbers.append(known[key])
  return firsts, numbers


def layout_items(
  sequences: Sequence[TokenSequence], layout: RowLayout
) -> tuple[list[list[int]], list[Item]]:
  """Rows' items, in order, and which of the sequences each holds.

  A row takes sequences of one query that stand side by side, as many as the layout has room for.
  """
  places = []
  for run in _runs(sequences):
    places.append([])
    for index in run:
      more = [*places[-1], index]
      fits = layout.needed(_item(sequences, more)) <= layout.lengths[-1]
      if len(more) > layout.num_responses or not fits:
        places.append([])
      places[-1].append(index)
  return places, [_item(sequences, among) for among in places]


def _runs(sequences: Sequence[TokenSequence]) -> list[list[int]]:
  """The indices of sequences that stand side by side and have one query."""
  runs = itertools.groupby(range(len(sequences)), key=lambda index: tuple(sequences[index][0]))
  return [list(run) for _, run in runs]


def _item(sequences: Sequence[TokenSequence], places: Sequence[int]) -> Item:
  return sequences[places[0]][0], [sequences[place][1] for place in places]


def make_reward_scorer(definition: Definition, mesh: Mesh, **settings: Any) -> Scorer:
  """A scorer of r(x, y); `settings` are those of `Scorer`."""

  def rewards(reward_model: RewardModel, rows: Rows, num_responses: int) -> Float[Array, "N R"]:
    return reward_model(*rows.read, num_responses)

  return Scorer(definition, rewards, lambda response: response.key, mesh, **settings)


def make_embedding_scorer(definition: Definition, mesh: Mesh, **settings: Any) -> Scorer:
  """A scorer of what the head of a reward model reads; `settings` are those of `Scorer`."""

  def embeddings(reward_model: RewardModel, rows: Rows, held: int) -> Float[Array, "N R D"]:
    return reward_model.judge(rows, held, embeddings=True).embeddings

  width = definition.architecture.embed_dim
  return Scorer(
    definition, embeddings, lambda response: response.key, mesh, width=width, **settings
  )


def make_logprob_scorer(definition: Definition, mesh: Mesh, **settings: Any) -> Scorer:
  """A scorer of log pi(y|x); `settings` are those of `Scorer`."""

  def identity(response: Response) -> Hashable:
    return response.key, response.drew_end

  return Scorer(definition, sequence_logprobs, identity, mesh, **settings)
