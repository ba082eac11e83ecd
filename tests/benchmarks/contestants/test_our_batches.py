"""Batches of the benchmarks' items."""

import numpy as np

from benchmarks import data
from benchmarks.contestants import our_batches

ITEMS = data.items(2, 3, 4, 5, vocab_size=50)


def test_rows_hold_the_items_tokens_and_read_every_response_to_its_eos():
  rows = our_batches.rows(ITEMS)
  present = rows.segment_ids > 0
  for number, item in enumerate(ITEMS):
    read = rows.tokens[number][rows.response_mask[number]]
    np.testing.assert_array_equal(read, np.concatenate(item.responses))
    kept = rows.tokens[number][present[number] & ~rows.response_mask[number]]
    np.testing.assert_array_equal(kept.reshape(-1, 4), [item.query] * (len(kept) // 4))


def test_the_first_response_is_the_best_and_the_last_the_worst():
  rewards = our_batches.policy_batch(ITEMS, None).rewards
  np.testing.assert_array_equal(rewards, [[0, -1, -2]] * 2)


def test_the_first_response_is_golden():
  scores = our_batches.reward_batch(ITEMS).preference_scores
  np.testing.assert_array_equal(scores, [[1, 0, 0]] * 2)
