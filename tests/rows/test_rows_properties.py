"""Any responses to any queries: what a row holds, and which of it is trained on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_jax.data.input import PADDING_ITEM, index_batches
from apo_jax.rows.rows import (
  PADDING_SEGMENT,
  RESPONSE_SEGMENT,
  SHARED_SEGMENT,
  Response,
  make_rows,
  make_shared_rows,
  row_length,
  shared_row_length,
)

EOS = 2
_IDS = st.lists(st.integers(0, 9), max_size=6)  # eos and the padding id among them
_RESPONSES = st.builds(
  lambda ids, finished, drew: Response(ids, finished, drew and finished),
  *(_IDS, st.booleans(), st.booleans()),
)
_ITEMS = st.lists(
  st.tuples(_IDS, st.lists(st.none() | _RESPONSES, min_size=1, max_size=3)), min_size=1, max_size=4
)
_SETTINGS = {"deadline": None, "derandomize": True, "database": None}


def held(rows, row, index, query):
  """A response's ids in its row, those that are trained on, and whether its eos stands there."""
  segments = rows.segment_ids[row]
  own = segments == RESPONSE_SEGMENT + index
  assert rows.tokens[row][segments == SHARED_SEGMENT].tolist() == list(query)
  assert rows.positions[row][own].tolist() == list(range(len(query), len(query) + own.sum()))
  return (
    rows.tokens[row][own].tolist(),
    rows.tokens[row][own & rows.response_mask[row]].tolist(),
    bool(rows.ends[row][own].any()),
  )


def expected(response):
  end = [EOS] * response.finished
  drawn = end if response.drew_end else []
  return [*response.tokens, *end], [*response.tokens, *drawn], response.finished


def assert_padding_is_nothing(rows):
  padding = rows.segment_ids == PADDING_SEGMENT
  for array in (rows.tokens, rows.ends, rows.response_mask):
    assert not array[padding].any()
  assert not rows.response_mask[rows.segment_ids == SHARED_SEGMENT].any()


@given(_ITEMS, st.integers(0, 5))
@settings(max_examples=150, **_SETTINGS)
def test_masks_cover_each_response_and_nothing_else(items, spare):
  count = max(len(responses) for _, responses in items)
  length = max(row_length(*item) for item in items) + spare
  separate = make_rows(items, count, length, EOS)
  shared = make_shared_rows(items, max(shared_row_length(*item) for item in items) + spare, EOS)
  assert_padding_is_nothing(separate)
  assert_padding_is_nothing(shared)
  for number, (query, responses) in enumerate(items):
    for index, response in enumerate(responses):
      if response is None:
        assert not separate.segment_ids[number, index].any()
        continue
      assert held(separate, (number, index), 0, query) == expected(response)
      assert held(shared, number, index, query) == expected(response)


@given(
  st.lists(st.integers(0, 2), min_size=1, max_size=30),
  st.integers(1, 7),
  st.integers(1, 3),
  st.integers(0, 99),
)
@settings(max_examples=6, **_SETTINGS)  # each starts an iterator of Grain
def test_every_record_comes_once_an_epoch(buckets, batch_size, epochs, seed):
  batches = [*index_batches(len(buckets), batch_size, epochs, seed, buckets)]
  assert all(batch.shape == (batch_size,) for batch in batches)
  taken = np.concatenate(batches)
  kept = taken[taken != PADDING_ITEM]
  assert np.bincount(kept, minlength=len(buckets)).tolist() == [epochs] * len(buckets)
  for batch in batches:  # of one length, so that no row is cut
    assert len({buckets[index] for index in batch if index != PADDING_ITEM}) == 1
