import math

import numpy as np
import pytest

from apo_jax.evaluation.text import distinct_2, longer_wins_accuracy


@pytest.mark.parametrize(
  ("texts", "expected"),
  [
    ([], 0.0),
    (["", "word"], 0.0),
    (["one two"], 1.0),
    ([" Ann has it.", " Ann has it."], 2 / 4),
    # Pairs: a-a three times, a-b, b-a.
    (["a a a a", "a b a"], 3 / 5),
    # No pair reaches over the border of two texts.
    (["a b", "b c", "c d"], 1.0),
    (["a  b\n\tc"], 1.0),
    # Case and punctuation are part of a word.
    (["a b", "A b", "a b."], 1.0),
  ],
)
def test_distinct_2_by_hand(texts, expected):
  assert math.isclose(distinct_2(texts), expected)


def test_distinct_2_falls_where_all_texts_are_the_same():
  assert distinct_2([" Ann has it."] * 50) == 2 / 100


def preference(responses, scores):
  return responses, scores


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
    ([preference(["long one", "short"], [1.0, 0.0])], 1.0),
    ([preference(["long one", "short"], [0.0, 1.0])], 0.0),
    ([preference(["same!", "equal"], [1.0, 0.0])], 0.5),
    # Pairs better-worse: 3-1 right, 3-2 right, 1-2 wrong.
    ([preference(["a", "bb", "ccc"], [1.0, 0.5, 2.0])], 2 / 3),
    # The second and third are tied, so only the two pairs with the first count.
    ([preference(["bb", "a", "ccc"], [1.0, 0.0, 0.0])], 1 / 2),
    # Pairs count, not preferences: one right of one, and none right of three.
    (
      [preference(["aa", "b"], [1.0, 0.0]), preference(["a", "bb", "ccc"], [2.0, 1.0, 0.0])],
      1 / 4,
    ),
    # Characters, not bytes.
    ([preference(["éé", "abc"], [0.0, 1.0])], 1.0),
  ],
)
def test_longer_wins_by_hand(preferences, expected):
  assert math.isclose(longer_wins_accuracy(*padded(preferences)), expected, rel_tol=1e-6)


@pytest.mark.parametrize("preferences", [[], [preference(["a", "bb"], [1.0, 1.0])]])
def test_longer_wins_is_not_a_number_where_no_pair_is_ordered(preferences):
  assert math.isnan(longer_wins_accuracy(*padded(preferences)))
