"""The order in which a training phase takes its records, as batches of one padded length each."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from jax.sharding import Mesh

from apo_jax.data.input import PADDING_ITEM, bucket_of, index_batches, most_batches
from apo_jax.devices.sharding import local_rows, place_batch
from apo_jax.rows.layouts import RowLayout
from apo_jax.rows.rows import Item

Record = TypeVar("Record")


@dataclasses.dataclass(frozen=True)
class Stream(Generic[Record]):
  """Records in batches; every process sees the same order and takes its own rows.

  Attributes:
    records: all of them.
    batches: the indices of each batch, Int[batch_size], by its number.
    most_batches: the most that there may be of as many records, whatever their lengths.
    mesh: whose devices take the batches.
    batch_size: records of a batch, padding included.
    buckets: the length bucket of each record.
  """

  records: Sequence[Record]
  batches: Any
  most_batches: int | None
  mesh: Mesh
  batch_size: int
  buckets: Sequence[int]

  @property
  def num_batches(self) -> int:
    """Updates in the phase."""
    return len(self.batches)

  def take(self, step: int) -> tuple[list[Record | None], int]:
    """This process's records of a batch, None for padding, and the batch's length bucket."""
    indices = self.batches[step]
    bucket = max(self.buckets[index] for index in indices if index != PADDING_ITEM)
    own = indices[local_rows(self.mesh, self.batch_size)]
    return [None if index == PADDING_ITEM else self.records[index] for index in own], bucket

  def place(self, batch: Any) -> Any:
    """Puts the arrays of a batch, this process's rows, onto the devices."""
    return place_batch(self.mesh, batch, self.batch_size)


def make_stream(
  mesh: Mesh,
  seed: int,
  records: Sequence[Record],
  layout: RowLayout,
  encode: Callable[[Sequence[Record]], Sequence[Item]],
  batch_size: int,
  epochs: int | None,
) -> Stream[Record]:
  """The stream of a phase; `seed` decides its order, `encode` gives what rows are made of.

  A batch holds records of one length bucket of `layout`, so that short rows are not padded to the
  longest. Without epochs (None) the stream never ends, and has no `most_batches`.
  """
  lengths = layout.lengths
  # With one length there is nothing to measure.
  buckets = None
  if len(lengths) > 1:
    buckets = [bucket_of(layout.needed(item), lengths) for item in encode(records)]
  batches = index_batches(len(records), batch_size, epochs, seed, buckets)
  most = None if epochs is None else most_batches(len(records), batch_size, epochs, len(lengths))
  return Stream(records, batches, most, mesh, batch_size, buckets or [0] * len(records))
