"""Which items make up which batch: deterministic by seed, equal on every process, resumable."""

import math
from collections.abc import Callable
from typing import TypeVar

import grain
import numpy as np

Batch = TypeVar("Batch")

PADDING_ITEM = -1


def num_batches(num_items: int, batch_size: int, epochs: int) -> int:
  """Updates that pass `epochs` times over `num_items`; the last batch may be padded."""
  return math.ceil(num_items * epochs / batch_size)


def index_batches(
  num_items: int, batch_size: int, epochs: int | None, seed: int
) -> grain.MapDataset:
  """Batches of item indices, Int[batch_size], shuffled anew every epoch.

  The last batch is filled up with `PADDING_ITEM`, so that no item is left out and every batch has
  one shape. With `epochs=None` the batches never end.
  """
  if epochs == 0:  # which Grain's repeat refuses
    return grain.MapDataset.range(0)
  indices = grain.MapDataset.range(num_items).seed(seed).shuffle().repeat(epochs)

  def pad(batch: np.ndarray) -> np.ndarray:
    missing = batch_size - len(batch)
    return np.pad(np.asarray(batch, np.int64), (0, missing), constant_values=PADDING_ITEM)

  return indices.batch(batch_size, drop_remainder=False).map(pad)


def batches(
  num_steps: int, build: Callable[[int], Batch], *, prefetch: int = 4
) -> grain.DatasetIterator:
  """An iterator over `build(0)`, `build(1)`, …, built ahead in threads.

  Its `get_state()` and `set_state()` save and restore the position.
  """
  options = grain.ReadOptions(num_threads=min(prefetch, 4), prefetch_buffer_size=prefetch)
  return iter(grain.MapDataset.range(num_steps).map(build).to_iter_dataset(options))
