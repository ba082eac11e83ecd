"""Which items make up which batch: deterministic by seed, equal on every process, resumable."""

import collections
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import grain
import numpy as np

Batch = TypeVar("Batch")

PADDING_ITEM = -1


def bucket_of(length: int, lengths: Sequence[int]) -> int:
  """The number of an item's bucket: that of the first of the ascending `lengths` that holds it.

  Raises:
    ValueError: the item is longer than the last of them.
  """
  for bucket, padded in enumerate(lengths):
    if length <= padded:
      return bucket
  raise ValueError(f"an item has {length} tokens, the longest bucket {lengths[-1]}.")


def num_batches(
  num_items: int, batch_size: int, epochs: int, buckets: Sequence[int] | None = None
) -> int:
  """Updates that pass `epochs` times over `num_items`: the length of their `index_batches`."""
  sizes = collections.Counter(buckets)
  if len(sizes) <= 1:
    return math.ceil(num_items * epochs / batch_size)
  return epochs * sum(math.ceil(size / batch_size) for size in sizes.values())


def most_batches(num_items: int, batch_size: int, epochs: int, num_buckets: int) -> int:
  """The most that `num_batches` can be, however the items fall into `num_buckets` buckets."""
  used = min(num_items, num_buckets)
  if used <= 1:
    return num_batches(num_items, batch_size, epochs)
  # One item begins a batch in every bucket; of the others, only full batches begin one more.
  return epochs * (used + (num_items - used) // batch_size)


def index_batches(
  num_items: int,
  batch_size: int,
  epochs: int | None,
  seed: int,
  buckets: Sequence[int] | None = None,
) -> grain.MapDataset:
  """Batches of item indices, Int[batch_size], shuffled anew every epoch.

  Without `buckets` only the last batch is filled up with `PADDING_ITEM`, so that no item is left
  out and every batch has one shape. With `epochs=None` the batches never end.

  Args:
    num_items: items to choose from.
    batch_size: indices a batch.
    epochs: how often every item comes.
    seed: decides the order.
    buckets: the bucket of every item (`bucket_of`). A batch holds items of one bucket, and
      batches of all buckets come mixed. Within an epoch every item comes once, so that the last
      batch of every bucket in every epoch may be filled up.
  """
  if epochs == 0:  # which Grain's repeat refuses
    return grain.MapDataset.range(0)

  def pad(batch: np.ndarray) -> np.ndarray:
    missing = batch_size - len(batch)
    return np.pad(np.asarray(batch, np.int64), (0, missing), constant_values=PADDING_ITEM)

  def in_batches(indices: grain.MapDataset) -> grain.MapDataset:
    return indices.batch(batch_size, drop_remainder=False).map(pad)

  if len(set(buckets or ())) <= 1:
    return in_batches(grain.MapDataset.range(num_items).seed(seed).shuffle().repeat(epochs))
  members = [
    [index for index, bucket in enumerate(buckets) if bucket == one] for one in sorted(set(buckets))
  ]
  # Each part shuffles its items, then the batches of all parts are shuffled, both anew every epoch.
  parts = [in_batches(grain.MapDataset.source(part).seed(seed).shuffle()) for part in members]
  return grain.MapDataset.concatenate(parts).seed(seed).shuffle().repeat(epochs)


def batches(
  num_steps: int, build: Callable[[int], Batch], *, prefetch: int = 4
) -> grain.DatasetIterator:
  """An iterator over `build(0)`, `build(1)`, …, built ahead in threads.

  Its `get_state()` and `set_state()` save and restore the position.
  """
  options = grain.ReadOptions(num_threads=min(prefetch, 4), prefetch_buffer_size=prefetch)
  return iter(grain.MapDataset.range(num_steps).map(build).to_iter_dataset(options))
