import math

import pytest

from apo_jax.evaluation.text import distinct_2, repetition


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
  assert math.isclose(distinct_2([texts]).value, expected)
  assert math.isclose(distinct_2([[text] for text in texts]).value, expected)


def test_distinct_2_falls_where_all_texts_are_the_same():
  assert distinct_2([[" Ann has it."]] * 50).value == 2 / 100


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("", 0.0),
    ("a b c", 0.0),
    ("a b c d e f", 0.0),
    # Runs: abcd, bcda, cdab, dabc, abcd.
    ("a b c d a b c d", 1 / 5),
    ("a a a a a a", 2 / 3),
    # Other words between them make other runs.
    ("a b c x a b c y", 0.0),
  ],
)
def test_repetition_by_hand(text, expected):
  assert math.isclose(repetition(text), expected)
