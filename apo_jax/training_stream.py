"""The order in which a training phase takes its records, as batches of one padded length each."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from apo_jax.data.input import PADDING_ITEM, bucket_of, index_batches, most_batches
from apo_jax.run_context import RunContext
from apo_jax.sharding import local_rows

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Stream(Generic[Item]):
  """Records in batches; every process sees the same order and takes its own rows.

  Attributes:
    items: all records.
    batches: the indices of each batch, Int[batch_size], by its number.
    most_batches: the most that there may be of as many records, whatever their lengths.
    rows: which rows of a batch are this process's.
    lengths: the padded length of each record's row.
  """

  items: Sequence[Item]
  batches: Any
  most_batches: int | None
  rows: np.ndarray
  lengths: Sequence[int]

  @property
  def num_batches(self) -> int:
    """Updates in the phase."""
    return len(self.batches)

  def take(self, step: int) -> tuple[list[Item | None], int]:
    """This process's records of a batch, None for padding, and the batch's padded length."""
    indices = self.batches[step]
    length = max(self.lengths[index] for index in indices if index != PADDING_ITEM)
    chosen = [None if index == PADDING_ITEM else self.items[index] for index in indices[self.rows]]
    return chosen, length


def make_stream(
  run: RunContext,
  items: Sequence[Item],
  measure: Callable[[RunContext, Sequence[Item]], list[int]],
  batch_size: int,
  epochs: int | None,
  round: int,
  purpose: str,
) -> Stream[Item]:
  """The stream of a phase; `purpose` names its random order, `measure` counts a row's tokens.

  A batch holds records of one length bucket (`RunContext.row_lengths`), so that short rows are not
  padded to the longest. Without epochs (None) the stream never ends, and has no `most_batches`.
  """
  lengths = run.row_lengths
  # With one length there is nothing to measure.
  buckets = None
  padded = [lengths[-1]] * len(items)
  if len(lengths) > 1:
    buckets = [bucket_of(length, lengths) for length in measure(run, items)]
    padded = [lengths[bucket] for bucket in buckets]
  seed = run.seed("shuffle", round, purpose)
  batches = index_batches(len(items), batch_size, epochs, seed, buckets)
  most = None if epochs is None else most_batches(len(items), batch_size, epochs, len(lengths))
  return Stream(items, batches, most, local_rows(run.mesh, batch_size), padded)
