import itertools

import numpy as np
import pytest

from apo_jax.data.input import (
  PADDING_ITEM,
  batches,
  bucket_of,
  index_batches,
  most_batches,
  num_batches,
)

ITEMS, SIZE, EPOCHS = 10, 4, 3


def items_of(epochs=EPOCHS, seed=5):
  """All indices of all batches in order."""
  return np.concatenate(list(index_batches(ITEMS, SIZE, epochs, seed))).tolist()


def test_every_item_comes_once_an_epoch_and_padding_only_at_the_end():
  chosen = items_of()
  assert chosen[ITEMS * EPOCHS :] == [PADDING_ITEM] * 2
  epochs = [chosen[start : start + ITEMS] for start in range(0, ITEMS * EPOCHS, ITEMS)]
  assert [sorted(epoch) for epoch in epochs] == [list(range(ITEMS))] * EPOCHS


def test_every_epoch_has_its_own_order():
  chosen = items_of()
  epochs = [tuple(chosen[start : start + ITEMS]) for start in range(0, ITEMS * EPOCHS, ITEMS)]
  assert len({*epochs, tuple(range(ITEMS))}) == EPOCHS + 1


def test_batches_have_one_shape():
  assert {(batch.shape, batch.dtype.name) for batch in index_batches(ITEMS, SIZE, EPOCHS, 5)} == {
    ((SIZE,), "int64")
  }


def test_the_seed_decides_the_order():
  assert items_of(seed=5) == items_of(seed=5)
  assert len({tuple(items_of(seed=seed)) for seed in range(5)}) == 5


def test_batches_are_found_by_their_number():
  chosen = index_batches(ITEMS, SIZE, EPOCHS, 5)
  np.testing.assert_array_equal([chosen[step] for step in range(len(chosen))], list(chosen))


def test_a_batch_may_be_larger_than_all_items():
  (batch,) = index_batches(3, 5, 1, 0)
  assert sorted(batch.tolist()) == [PADDING_ITEM, PADDING_ITEM, 0, 1, 2]


def test_without_a_number_of_epochs_batches_never_end():
  endless = index_batches(ITEMS, SIZE, None, 5)
  finite = index_batches(ITEMS, SIZE, EPOCHS, 5)
  for step in range(len(finite) - 1):
    np.testing.assert_array_equal(endless[step], finite[step])
  far = np.concatenate([endless[step] for step in range(5_000, 5_005)])
  assert sorted(far.tolist()) == sorted([*range(ITEMS)] * 2)


@pytest.mark.parametrize("items", [0, ITEMS])
def test_no_epoch_has_no_batch(items):
  assert len(index_batches(items, SIZE, 0, 5)) == num_batches(items, SIZE, 0) == 0


@pytest.mark.parametrize(
  ("items", "size", "epochs", "expected"),
  [(10, 4, 3, 8), (10, 5, 1, 2), (11, 5, 1, 3), (3, 5, 1, 1), (3, 5, 5, 3)],
)
def test_num_batches(items, size, epochs, expected):
  assert num_batches(items, size, epochs) == expected
  assert len(index_batches(items, size, epochs, 0)) == expected


BUCKETS = [16, 8, 8, 16, 16, 8, 8, 32, 8, 16, 16]  # 5 of 8, 5 of 16, 1 of 32
A_BATCH_EACH = 2 + 2 + 1  # of 4


def bucketed(epochs=EPOCHS, seed=5):
  """All batches of the bucketed items."""
  return [
    list(map(int, batch)) for batch in index_batches(len(BUCKETS), SIZE, epochs, seed, BUCKETS)
  ]


def test_a_batch_holds_items_of_one_bucket():
  for batch in bucketed():
    assert len(batch) == SIZE
    present = [index for index in batch if index != PADDING_ITEM]
    assert present and len({BUCKETS[index] for index in present}) == 1
    assert batch == [*present, *[PADDING_ITEM] * (SIZE - len(present))]


def test_bucketed_items_come_once_an_epoch():
  chosen = bucketed()
  assert len(chosen) == num_batches(len(BUCKETS), SIZE, EPOCHS, BUCKETS) == EPOCHS * A_BATCH_EACH
  for start in range(0, len(chosen), A_BATCH_EACH):
    present = [index for batch in chosen[start : start + A_BATCH_EACH] for index in batch]
    assert sorted(index for index in present if index != PADDING_ITEM) == [*range(len(BUCKETS))]
    assert present.count(PADDING_ITEM) == A_BATCH_EACH * SIZE - len(BUCKETS)


@pytest.mark.slow
def test_batches_of_all_buckets_come_mixed_and_anew_every_epoch():
  chosen = bucketed(epochs=40)
  orders = [
    tuple(BUCKETS[batch[0]] for batch in chosen[start : start + A_BATCH_EACH])
    for start in range(0, len(chosen), A_BATCH_EACH)
  ]
  assert len(set(orders)) > 10
  assert {order[0] for order in orders} == {order[-1] for order in orders} == {8, 16, 32}
  # Also which items share a batch changes.
  assert len({tuple(sorted(batch)) for batch in chosen if BUCKETS[batch[0]] == 8}) > 5


def test_bucketed_batches_are_found_by_their_number_and_decided_by_the_seed():
  chosen = index_batches(len(BUCKETS), SIZE, EPOCHS, 5, BUCKETS)
  assert [chosen[step].tolist() for step in reversed(range(len(chosen)))] == bucketed()[::-1]
  assert bucketed(seed=5) == bucketed(seed=5) != bucketed(seed=6)


def test_bucketed_batches_may_never_end():
  endless = index_batches(len(BUCKETS), SIZE, None, 5, BUCKETS)
  assert [endless[step].tolist() for step in range(EPOCHS * A_BATCH_EACH)] == bucketed()
  far = range(1_000 * A_BATCH_EACH, 1_001 * A_BATCH_EACH)
  present = np.concatenate([endless[step] for step in far])
  assert sorted(present[present != PADDING_ITEM]) == [*range(len(BUCKETS))]


def test_one_bucket_is_as_none():
  for epochs in (1, EPOCHS):
    expected = [batch.tolist() for batch in index_batches(ITEMS, SIZE, epochs, 5)]
    assert [batch.tolist() for batch in index_batches(ITEMS, SIZE, epochs, 5, [64] * ITEMS)] == (
      expected
    )
    assert num_batches(ITEMS, SIZE, epochs, [64] * ITEMS) == num_batches(ITEMS, SIZE, epochs)
  assert len(index_batches(0, SIZE, 0, 5, [])) == num_batches(0, SIZE, 0, []) == 0
  assert len(index_batches(len(BUCKETS), SIZE, 0, 5, BUCKETS)) == 0


@pytest.mark.parametrize("num_buckets", [1, 3])
@pytest.mark.parametrize("epochs", [0, 1, 3])
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("items", [0, 1, 2, 7, 8, 9])
def test_most_batches(items, size, epochs, num_buckets):
  falls = itertools.combinations_with_replacement(range(num_buckets), items)
  counts = [num_batches(items, size, epochs, buckets) for buckets in falls]
  assert max(counts) == most_batches(items, size, epochs, num_buckets)


@pytest.mark.parametrize(
  ("buckets", "size", "epochs", "expected"),
  [([1, 2], 4, 3, 6), ([1] * 5 + [2] * 5, 5, 2, 4), ([1] * 6 + [2] * 5, 5, 2, 6)],
)
def test_num_batches_of_buckets(buckets, size, epochs, expected):
  assert num_batches(len(buckets), size, epochs, buckets) == expected
  assert len(index_batches(len(buckets), size, epochs, 0, buckets)) == expected


def test_an_items_bucket_is_the_shortest_that_holds_it():
  lengths = (8, 16, 48)
  found = [bucket_of(length, lengths) for length in (0, 1, 8, 9, 16, 17, 48)]
  assert found == [0, 0, 0, 1, 1, 2, 2]
  with pytest.raises(ValueError, match="an item has 49 tokens, the longest bucket 48"):
    bucket_of(49, lengths)


def test_iterator_yields_every_step_in_order():
  assert list(batches(20, lambda step: step * step)) == [step * step for step in range(20)]
  assert list(batches(0, lambda step: step)) == []


@pytest.mark.parametrize("taken", [0, 1, 7, 19, 20])
@pytest.mark.parametrize("prefetch", [1, 4])
def test_iterator_goes_on_at_the_batch_after_the_saved_position(taken, prefetch):
  first = batches(20, lambda step: step, prefetch=prefetch)
  assert list(itertools.islice(first, taken)) == list(range(taken))
  position = first.get_state()
  # What is taken after the position was saved, and what was built ahead, does not count.
  list(itertools.islice(first, 3))
  second = batches(20, lambda step: step, prefetch=prefetch)
  second.set_state(position)
  assert second.get_state() == position
  assert list(second) == list(range(taken, 20))


def test_an_error_in_a_batch_reaches_the_reader():
  def build(step):
    if step == 2:
      raise ValueError("batch 2 is broken")
    return step

  steps = batches(4, build)
  assert [next(steps), next(steps)] == [0, 1]
  with pytest.raises(ValueError, match="batch 2 is broken"):
    next(steps)
