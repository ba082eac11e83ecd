"""Closed forms."""

import math

import numpy as np
import pytest

from apo_jax.compare.statistics import holm, over_seeds, paired_test


def test_the_mean_over_two_seeds_and_its_error():
  one = over_seeds([0.2, 0.6], [9.0, 9.0], "test queries")
  assert one.value == pytest.approx(0.4)
  assert one.standard_error == pytest.approx(math.sqrt(0.08) / math.sqrt(2))  # variance 0.08
  assert (one.over, one.count) == ("seeds", 2)


def test_one_seed_keeps_its_own_error():
  assert over_seeds([math.nan, 0.6], [0.1, 0.05], "test queries") == (0.6, 0.05, "test queries", 1)
  nothing = over_seeds([math.nan], [0.1], "test queries")
  assert math.isnan(nothing.value) and nothing.count == 0


def test_students_t_of_three_differences():
  # Mean 2, standard deviation 1, so t = 2 sqrt(3); with two degrees of freedom the two-sided
  # p-value is 1 - t / sqrt(2 + t^2).
  test = paired_test([1.0, 2.0, 3.0, math.nan])
  t = 2 * math.sqrt(3)
  assert test.t == pytest.approx(t)
  assert test.p == pytest.approx(1 - t / math.sqrt(2 + t**2))


def test_no_test_of_two_seeds_or_without_spread():
  assert paired_test([1.0, 2.0]) is None
  assert paired_test([1.0, 2.0, math.nan]) is None
  assert paired_test([0.0, 0.0, 0.0]) is None


def test_holm_by_hand():
  # Sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1, and never less than the one before.
  assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
  assert holm([0.9, 0.8]) == [1.0, 1.0]
  assert holm([]) == []


def test_holm_holds_the_chance_of_any_false_finding():
  random = np.random.default_rng(0)
  found = [min(holm(list(random.random(8)))) < 0.05 for _ in range(2000)]
  # Bonferroni's first step: 1 - (1 - 0.05 / 8)^8 = 0.049, give or take 0.005 over 2000 draws.
  assert np.mean(found) == pytest.approx(0.049, abs=0.015)
