"""Which slot is whose, by hand and against separate rows."""

import jax.numpy as jnp
import numpy as np

from apo_jax.rows.reading import (
  as_sequences,
  own_slots,
  predicting_slots,
  seen_slots,
  sum_by_response,
)
from apo_jax.rows.rows import Response, make_rows, make_shared_rows

EOS = 2
ITEMS = [
  ([1, 7, 8], [Response([5, 6]), None, Response([]), Response([9], finished=False)]),
  ([1], [None, Response([5]), None, None]),
  ([1, 4], [None] * 4),
]
SHARED = make_shared_rows(ITEMS, 10, EOS)
SEGMENTS = jnp.asarray(SHARED.segment_ids)
# Of the first row: 1 1 1 2 2 2 4 5 0 0.


def test_slots_by_hand():
  own = np.zeros((4, 10), bool)
  own[0, 3:6] = own[2, 6] = own[3, 7] = True
  np.testing.assert_array_equal(own_slots(SEGMENTS, 4)[0], own)
  query = np.arange(10) < 3
  np.testing.assert_array_equal(seen_slots(SEGMENTS, 4)[0], own | query)


def test_the_first_token_of_every_response_is_predicted_from_the_query():
  expected = [[0, 0, 1, 2, 3, 4, 2, 2, 7, 8], [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]]
  np.testing.assert_array_equal(predicting_slots(SEGMENTS[:2]), expected)


def test_sums_are_those_of_separate_rows():
  separate = make_rows(ITEMS, 4, 8, EOS)
  counts = sum_by_response(jnp.asarray(SHARED.response_mask), SEGMENTS, 4)
  np.testing.assert_array_equal(counts, separate.response_mask.sum(-1))
  sums = sum_by_response(jnp.asarray(SHARED.positions, jnp.float32), SEGMENTS, 4)
  own = separate.segment_ids > 1
  np.testing.assert_array_equal(sums, (separate.positions * own).sum(-1))


def test_both_layouts_become_sequences():
  separate = make_rows(ITEMS, 4, 8, EOS)
  rows, held = as_sequences(separate, 4)
  assert (rows.tokens.shape, held) == ((12, 8), 1)
  rows, held = as_sequences(SHARED, 4)
  assert (rows.tokens.shape, held) == ((3, 10), 4)
