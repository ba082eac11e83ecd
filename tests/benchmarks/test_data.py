"""The benchmarks' data."""

import itertools

from benchmarks import data

VOCABULARY = 50


def test_queries_hold_neither_padding_nor_eos_and_are_always_the_same():
  made = data.queries(20, 30, VOCABULARY)
  flat = list(itertools.chain(*made))
  assert len(made) == 20 and {len(query) for query in made} == {30}
  assert min(flat) == 1 and max(flat) == VOCABULARY - 2
  assert made == data.queries(20, 30, VOCABULARY)
  assert made != data.queries(20, 30, VOCABULARY, seed=1)


def test_responses_end_with_eos_and_differ():
  made = data.items(3, 2, 4, 5, VOCABULARY)
  responses = [tuple(response) for item in made for response in item.responses]
  assert {len(response) for response in responses} == {5}
  assert all(response[-1] == VOCABULARY - 1 for response in responses)
  assert len(set(responses)) == 6


def test_lengths_are_spread_evenly_in_another_order():
  rows = data.spread(8, 128, 8, 4)
  flat = list(itertools.chain(*rows))
  assert [len(row) for row in rows] == [4] * 8
  assert flat != sorted(flat)
  ordered = sorted(flat)
  assert (ordered[0], ordered[-1]) == (8, 128)
  assert {b - a for a, b in itertools.pairwise(ordered)} == {3, 4}  # 120 / 31


def test_equal_lengths():
  assert data.spread(64, 64, 2, 3) == [[64] * 3] * 2
  assert data.spread(5, 5, 1, 1) == [[5]]
