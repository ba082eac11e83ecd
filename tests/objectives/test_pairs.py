import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives

pairs_from_scores = jax.jit(objectives.pairs_from_scores, static_argnames="selection")


def pairs_of(scores, valid=None, selection="all"):
  """Returns the set of (i, j) of the only query."""
  scores = jnp.asarray([scores], jnp.float32)
  valid = jnp.ones(scores.shape, bool) if valid is None else jnp.asarray([valid])
  pairs = pairs_from_scores(scores, valid, selection)
  assert pairs.dtype == jnp.bool_
  return {(int(i), int(j)) for _, i, j in np.argwhere(pairs)}


def test_all_takes_every_strict_preference_once():
  assert pairs_of([2.0, 0.0, 1.0]) == {(0, 1), (0, 2), (2, 1)}
  assert pairs_of([1.0, 1.0, 0.0]) == {(0, 2), (1, 2)}


def test_best_worst_takes_one_pair_with_the_first_index_on_ties():
  assert pairs_of([1.0, 3.0, 0.0, 2.0], selection="best_worst") == {(1, 2)}
  assert pairs_of([0.0, 3.0, 3.0, 0.0], selection="best_worst") == {(1, 0)}


def test_best_rest_takes_the_first_best_against_each_lower_score():
  assert pairs_of([1.0, 3.0, 0.0, 3.0], selection="best_rest") == {(1, 0), (1, 2)}


def test_invalid_responses_are_neither_better_nor_worse():
  valid = [False, True, True, False]
  scores = [9.0, 1.0, 2.0, -9.0]
  for selection in ("all", "best_worst", "best_rest"):
    assert pairs_of(scores, valid, selection) == {(2, 1)}


def test_negative_scores_are_scores_where_valid():
  assert pairs_of([-3.0, -1.0], selection="best_worst") == {(1, 0)}


@pytest.mark.parametrize("selection", ["all", "best_worst", "best_rest"])
@pytest.mark.parametrize(
  ("scores", "valid"),
  [
    ([1.0, 1.0, 1.0], [True, True, True]),
    ([1.0, 2.0, 3.0], [False, True, False]),
    ([1.0, 2.0, 3.0], [False, False, False]),
    ([1.0], [True]),
  ],
  ids=["equal", "one valid", "none valid", "one response"],
)
def test_no_pair_without_two_different_valid_scores(scores, valid, selection):
  assert pairs_of(scores, valid, selection) == set()


def test_unknown_selection_is_refused():
  with pytest.raises(ValueError, match="selection is 'worst'"):
    pairs_of([1.0, 0.0], selection="worst")
