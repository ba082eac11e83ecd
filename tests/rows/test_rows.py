import numpy as np
import pytest

from apo_jax.rows.rows import (
  Response,
  distinct_scores,
  flatten,
  make_rows,
  make_shared_rows,
  row_length,
  shared_row_length,
)

EOS = 2


def test_every_array_by_hand():
  rows = make_rows([([1, 7, 8], [Response([5, 6]), Response([9], finished=False)])], 2, 7, EOS)
  # eos stands behind what ended, and only there.
  np.testing.assert_array_equal(rows.tokens, [[[1, 7, 8, 5, 6, EOS, 0], [1, 7, 8, 9, 0, 0, 0]]])
  np.testing.assert_array_equal(rows.segment_ids, [[[1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 2, 0, 0, 0]]])
  np.testing.assert_array_equal(rows.positions, [[range(7), range(7)]])
  np.testing.assert_array_equal(rows.ends, [[[0, 0, 0, 0, 0, 1, 0], [0] * 7]])
  np.testing.assert_array_equal(
    rows.response_mask, np.array([[[0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 0, 0, 0]]], bool)
  )


def test_an_end_that_was_not_drawn_is_no_part_of_the_likelihood():
  """A stop string ended it: eos stands there, to be learnt, and has no part in ratios."""
  rows = make_rows([([1, 7], [Response([5], drew_end=False)])], 1, 5, EOS)
  np.testing.assert_array_equal(rows.tokens, [[[1, 7, 5, EOS, 0]]])
  np.testing.assert_array_equal(rows.response_mask, [[[False, False, True, False, False]]])
  np.testing.assert_array_equal(rows.ends, [[[False, False, False, True, False]]])


def test_what_makes_two_responses_one():
  """A reward model reads the same of them; what was drawn does not matter."""
  response = Response([5, 6])
  assert response.key == Response((5, 6), drew_end=False).key
  assert response.key != Response([5, 6], finished=False).key
  assert response.key != Response([5]).key


def test_types():
  rows = make_rows([([1], [Response([5])])], 1, 4, EOS)
  assert [array.dtype for array in rows] == [np.int32, np.int32, np.int32, bool, bool]


def test_a_response_of_no_tokens_is_its_eos():
  rows = make_rows([([1, 7], [Response([]), Response([], finished=False)])], 2, 4, EOS)
  np.testing.assert_array_equal(rows.tokens, [[[1, 7, EOS, 0], [1, 7, 0, 0]]])
  np.testing.assert_array_equal(rows.segment_ids, [[[1, 1, 2, 0], [1, 1, 0, 0]]])
  np.testing.assert_array_equal(rows.response_mask[0], [[0, 0, 1, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("responses", [[Response([5]), None], [Response([5])]])
def test_absent_responses_are_padding(responses):
  rows = make_rows([([1, 7], responses), ([3], [])], 2, 5, EOS)
  for b, r in ((0, 1), (1, 0), (1, 1)):
    assert not rows.tokens[b, r].any()
    assert not rows.segment_ids[b, r].any()
    assert not rows.response_mask[b, r].any()
  np.testing.assert_array_equal(rows.tokens[0, 0], [1, 7, 5, EOS, 0])


def test_what_just_fits_is_kept_and_what_does_not_raises():
  rows = make_rows([([1, 7], [Response([5, 6])])], 1, 5, EOS)
  np.testing.assert_array_equal(rows.tokens, [[[1, 7, 5, 6, EOS]]])
  with pytest.raises(ValueError, match="query of 2 and a response of 4 tokens with eos need 6"):
    make_rows([([1, 7], [Response([5, 6, 5])])], 1, 5, EOS)


def test_flatten_keeps_the_order():
  items = [([1, 10 + b], [Response([20 + b, 30 + r]) for r in range(3)]) for b in range(2)]
  rows = make_rows(items, 3, 6, EOS)
  flat = flatten(rows)
  assert all(array.shape == (6, 6) for array in flat)
  for b in range(2):
    for r in range(3):
      np.testing.assert_array_equal(flat.tokens[3 * b + r], [1, 10 + b, 20 + b, 30 + r, EOS, 0])
      for whole, part in zip(rows, flat, strict=True):
        np.testing.assert_array_equal(part[3 * b + r], whole[b, r])


@pytest.mark.parametrize("eos", [0, 2, 5, 7])
def test_masks_follow_lengths_whatever_the_ids_are(eos):
  """Eos may be the padding id and may stand within query and response: only lengths count."""
  items = [([eos, 7, eos], [Response([eos, 5]), Response([eos], finished=False), None])]
  rows = make_rows(items, 3, 8, eos)
  np.testing.assert_array_equal(
    rows.segment_ids[0], [[1, 1, 1, 2, 2, 2, 0, 0], [1, 1, 1, 2, 0, 0, 0, 0], [0] * 8]
  )
  np.testing.assert_array_equal(
    rows.response_mask[0],
    np.array([[0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0], [0] * 8], bool),
  )
  np.testing.assert_array_equal(rows.tokens[0, 0], [eos, 7, eos, eos, 5, eos, 0, 0])


def test_row_length_is_what_just_fits():
  query, responses = [1, 7], [Response([5]), None, Response([5, 6, 5, 5], finished=False)]
  length = row_length(query, responses)
  assert length == 6  # what did not end has no eos
  make_rows([(query, responses)], 3, length, EOS)
  with pytest.raises(ValueError, match="need 6 places"):
    make_rows([(query, responses)], 3, length - 1, EOS)
  assert row_length(query, []) == row_length(query, [None]) == 3


def test_shared_rows_by_hand():
  responses = [Response([5, 6]), Response([9], finished=False), Response([])]
  rows = make_shared_rows([([1, 7, 8], responses)], 10, EOS)
  np.testing.assert_array_equal(rows.tokens, [[1, 7, 8, 5, 6, EOS, 9, EOS, 0, 0]])
  np.testing.assert_array_equal(rows.segment_ids, [[1, 1, 1, 2, 2, 2, 3, 4, 0, 0]])
  np.testing.assert_array_equal(rows.positions[:, :8], [[0, 1, 2, 3, 4, 5, 3, 3]])
  mask = np.array([[0, 0, 0, 1, 1, 1, 1, 1, 0, 0]], bool)
  np.testing.assert_array_equal(rows.response_mask, mask)
  np.testing.assert_array_equal(rows.ends, [[0, 0, 0, 0, 0, 1, 0, 1, 0, 0]])


def test_a_shared_row_has_no_place_for_missing_responses():
  items = [([1, 7], [None, Response([5]), None, Response([6])]), ([3, 4], [None]), ([3], [])]
  rows = make_shared_rows(items, 7, EOS)
  np.testing.assert_array_equal(rows.tokens, [[1, 7, 5, EOS, 6, EOS, 0], [0] * 7, [0] * 7])
  # A response keeps its number.
  np.testing.assert_array_equal(rows.segment_ids, [[1, 1, 3, 3, 5, 5, 0], [0] * 7, [0] * 7])
  assert not rows.response_mask[1:].any()


def test_a_shared_row_of_one_response_is_a_separate_row():
  items = [([1, 7, 8], [Response([5, 6])]), ([1], [Response([9], finished=False)]), ([4], [None])]
  separate, shared = make_rows(items, 1, 8, EOS), make_shared_rows(items, 8, EOS)
  for one, other in zip(flatten(separate), shared, strict=True):
    np.testing.assert_array_equal(one, other)


def test_shared_row_length_is_what_just_fits():
  query, responses = [1, 7], [Response([5]), None, Response([5, 6, 5], finished=False)]
  length = shared_row_length(query, responses)
  assert length == 2 + 2 + 3
  make_shared_rows([(query, responses)], length, EOS)
  expected = "query of 2 and a response of 2 and 3 tokens with eos need 7 places, the row has 6"
  with pytest.raises(ValueError, match=expected):
    make_shared_rows([(query, responses)], length - 1, EOS)


def test_equal_responses_are_one_and_have_one_score():
  responses = [Response([5, 6]), Response([5]), Response([5, 6]), Response([7])]
  # The later copy is lost; it took the earlier one's score before, and could turn the order round.
  assert distinct_scores(responses, (1.0, 0.0, 1.0, 2.0)) == [1.0, 0.0, -1.0, 2.0]
  # Two scores for one response contradict each other, in whatever order they come.
  assert distinct_scores(responses, (1.0, 0.5, 0.0, 2.0)) == [-1.0, 0.5, -1.0, 2.0]
  unfinished = responses[2]._replace(finished=False)  # another response, which has no eos
  assert distinct_scores([*responses[:2], unfinished], (1.0, 0.5, 0.0)) == [1.0, 0.5, 0.0]
