import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from apo_jax.evaluation.length_order import agreement, rank_correlation


def test_rank_correlation_is_scipys_in_the_mean_over_queries():
  random = np.random.default_rng(0)
  rewards, lengths = random.normal(size=(20, 6)), random.integers(1, 5, (20, 6))
  expected = np.mean([spearmanr(*pair).statistic for pair in zip(rewards, lengths, strict=True)])
  every = np.ones((20, 6), bool)
  assert rank_correlation(rewards, lengths, every) == pytest.approx(expected)
  # Only the order counts, and it is that within a query.
  moved = np.exp(rewards) + random.normal(size=(20, 1))
  assert rank_correlation(moved, lengths, every) == pytest.approx(expected)


def test_what_has_no_order_is_left_out():
  rewards = np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [1.0, 2.0, 0.0]])
  lengths = np.array([[1, 2, 3], [1, 2, 3], [7, 7, 7]])
  every = np.ones((3, 3), bool)
  assert rank_correlation(rewards, lengths, every) == pytest.approx(1.0)
  assert math.isnan(rank_correlation(rewards[1:], lengths[1:], every[1:]))
  assert math.isnan(rank_correlation(rewards[:, :1], lengths[:, :1], every[:, :1]))


def test_a_sample_given_twice_counts_once():
  rewards, lengths = np.array([[1.0, 3.0, 2.0, 2.0]]), np.array([[1, 2, 3, 3]])
  counted = np.array([[True, True, True, False]])
  assert rank_correlation(rewards, lengths, counted) == pytest.approx(0.5)


def test_agreement_by_hand():
  margins = np.array([1.0, -1.0, 0.0, 2.0, 5.0])
  longer_by = np.array([3, -1, 2, -4, 0])
  # Longer first twice and shorter first once, a tie, and one pair of equal lengths.
  assert agreement(margins, longer_by) == pytest.approx(2.5 / 4)
  assert agreement(margins, longer_by) == pytest.approx(1 - agreement(-margins, longer_by))
  assert math.isnan(agreement(margins, np.zeros(5, int)))
