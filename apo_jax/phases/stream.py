"""The order in which a training phase takes its records, as batches of one padded length each."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from jax.sharding import Mesh

from apo_jax.data.input import PADDING_ITEM, bucket_of, index_batches, most_batches
from apo_jax.devices.sharding import local_rows, place_batch
from apo_jax.rows.layouts import RowLayout

Record = TypeVar("Record")


class Batches(NamedTuple):
  """The batches of a training phase.

  Attributes:
    number: updates.
    most: the most that there may be of as many records, whatever their lengths.
    build: the host batch of an update, counted from 0: this process's rows as NumPy arrays.
    place: puts a host batch onto the devices.
  """

  number: int
  most: int
  build: Callable[[int], Any]
  place: Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Stream(Generic[Record]):
  """Records in batches; every process sees the same order and takes its own rows.

  Attributes:
    records: all of them.
    buckets: the length bucket of each record.
    indices: the records of each batch, Int[batch_size], by its number.
    batch_size: records of a batch, padding included.
    mesh: whose devices take the batches.
    most: the most batches that there may be; None where they never end.
  """

  records: Sequence[Record]
  buckets: Sequence[int]
  indices: Any
  batch_size: int
  mesh: Mesh
  most: int | None

  def batches(self, build: Callable[[list[Record | None], int], Any]) -> Batches:
    """The batches that `build` makes of what `take` gives."""
    return Batches(len(self.indices), self.most, lambda step: build(*self.take(step)), self.place)

  def take(self, step: int) -> tuple[list[Record | None], int]:
    """This process's records of a batch, None for padding, and the batch's length bucket."""
    indices = self.indices[step]
    bucket = max(self.buckets[index] for index in indices if index != PADDING_ITEM)
    own = indices[local_rows(self.mesh, self.batch_size)]
    return [None if index == PADDING_ITEM else self.records[index] for index in own], bucket

  def place(self, batch: Any) -> Any:
    """Puts the arrays of a batch, this process's rows, onto the devices."""
    return place_batch(self.mesh, batch, self.batch_size)


def make_stream(
  mesh: Mesh,
  seed: int,
  layout: RowLayout,
  records: Sequence[Record],
  batch_size: int,
  epochs: int | None,
) -> Stream[Record]:
  """The stream of records that have an `item`; `seed` decides its order.

  A batch holds records of one length bucket of `layout`, so that short rows are not padded to the
  longest. Without epochs (None) the stream never ends.
  """
  lengths, buckets = layout.lengths, None
  if len(lengths) > 1:  # with one there is nothing to measure
    buckets = [bucket_of(layout.needed(record.item), lengths) for record in records]
  indices = index_batches(len(records), batch_size, epochs, seed, buckets)
  most = None if epochs is None else most_batches(len(records), batch_size, epochs, len(lengths))
  return Stream(records, buckets or [0] * len(records), indices, batch_size, mesh, most)
