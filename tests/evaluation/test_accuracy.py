import math

import numpy as np
import pytest

from apo_jax.evaluation.accuracy import accuracy, accuracy_by_length, error_correlation


def padded(preferences):
  """Returns lengths in characters and scores [B, 3], scores of -1 at padding."""
  lengths, scores = np.zeros((len(preferences), 3)), np.full((len(preferences), 3), -1.0)
  for row, (texts, given) in enumerate(preferences):
    lengths[row, : len(texts)] = [len(text) for text in texts]
    scores[row, : len(given)] = given
  return lengths, scores


@pytest.mark.parametrize(
  ("preferences", "expected"),
  [
    ([(["long one", "short"], [1.0, 0.0])], 1.0),
    ([(["long one", "short"], [0.0, 1.0])], 0.0),
    ([(["same!", "equal"], [1.0, 0.0])], 0.5),
    # Pairs better-worse: 3-1 right, 3-2 right, 1-2 wrong.
    ([(["a", "bb", "ccc"], [1.0, 0.5, 2.0])], 2 / 3),
    # The second and third are tied, so only the two pairs with the first count.
    ([(["bb", "a", "ccc"], [1.0, 0.0, 0.0])], 1 / 2),
    # Pairs count, not preferences: one right of one, and none right of three.
    ([(["aa", "b"], [1.0, 0.0]), (["a", "bb", "ccc"], [2.0, 1.0, 0.0])], 1 / 4),
  ],
)
def test_accuracy_by_hand(preferences, expected):
  assert accuracy(*padded(preferences)).value == pytest.approx(expected)


@pytest.mark.parametrize("preferences", [[], [(["a", "bb"], [1.0, 1.0])]])
def test_accuracy_is_not_a_number_where_no_pair_is_ordered(preferences):
  assert math.isnan(accuracy(*padded(preferences)).value)


def test_error_correlation_by_hand():
  # Four pairs, the first response preferred; wrong are 0, 1 and 1, 2.
  scores = np.tile([1.0, 0.0], (4, 1))
  ours = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
  theirs = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
  assert error_correlation(ours, theirs, scores).value == 0.0
  assert error_correlation(ours, ours, scores).value == 1.0
  assert error_correlation(ours, -ours, scores).value == -1.0
  right = np.tile([1.0, 0.0], (4, 1))
  assert math.isnan(error_correlation(ours, right, scores).value)  # it is never wrong
  # 11, 10, 00, 00: phi = (n11 n00 - n10 n01) / sqrt(n1. n0. n.1 n.0)
  once = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
  phi = 2 / math.sqrt(2 * 2 * 1 * 3)
  assert error_correlation(ours, once, scores).value == pytest.approx(phi)


def test_accuracy_by_length_by_hand():
  # Preferred and longer: right, wrong; preferred and shorter: a tie; of one length: left out.
  rewards = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [3.0, 0.0]])
  lengths = np.array([[9.0, 1.0], [5.0, 4.0], [1.0, 2.0], [7.0, 7.0]])
  scores = np.array([[1.0, 0.0]] * 4)
  found = accuracy_by_length(rewards, lengths, scores)
  assert found["accuracy_longer_preferred"].value == 0.5
  assert found["accuracy_shorter_preferred"].value == 0.5
  assert found["length_bias"].value == 0.0
  # A model that goes by length alone is biased as far as can be.
  by_length = accuracy_by_length(lengths, lengths, scores)["length_bias"]
  assert by_length.value == 1.0
  assert math.isnan(accuracy_by_length(rewards[3:], lengths[3:], scores[3:])["length_bias"].value)
