"""A judge's measures: by hand, and against a judge whose flips are known."""

import itertools

import numpy as np
import pytest

from apo_jax.evaluate.judge.measures import (
  Votes,
  answered,
  denoised_both,
  denoised_rate,
  flip_probability,
  preference_measures,
  win_measures,
  win_values,
)


def votes(first, second, differences, repeats=1):
  picks = np.full((len(first), 2, repeats), np.nan)
  picks[:, 0, 0], picks[:, 1, 0] = first, second
  return Votes(picks, np.array(differences, float))


def test_measures_by_hand():
  found = preference_measures(
    votes(first=[1, 1, 0, 1, 0.5], second=[1, 0, 0, 1, 1], differences=[3, 1, -2, -1, 0])
  )
  values = {name: one.value for name, one in found.items()}
  assert values["accuracy_both"] == pytest.approx(2 / 5)
  assert values["accuracy_random"] == pytest.approx((3 / 5 + 3 / 5) / 2)
  assert values["position_bias"] == pytest.approx(0.0)
  # Longer: picked in 3 of 4 orders; shorter: in 2 of 4; equal lengths are left out.
  assert values["length_bias"] == pytest.approx(3 / 4 - 2 / 4)
  assert values["orders_disagree"] == pytest.approx(1 / 5)
  assert np.isnan(values["flip_probability"]) and np.isnan(values["accuracy_both_denoised"])
  # Of a mean, the jackknife is the standard error of the mean.
  both = np.array([1, 0, 0, 1, 0])
  error = np.std(both, ddof=1) / np.sqrt(5)
  assert found["accuracy_both"].standard_error == pytest.approx(error)


def test_a_win_counts_only_in_both_orders():
  given = votes(first=[1, 1, 0, 0.5, 0, 1], second=[1, 0, 0, 0.5, 1, 0.5], differences=[0] * 6)
  assert win_values(given).tolist() == [1, 0.5, 0, 0.5, 0.5, 0.5]
  found = win_measures(given)
  assert found["win_rate"].value == pytest.approx(3 / 6)
  assert found["wins"].value == found["losses"].value == pytest.approx(1 / 6)
  assert found["orders_disagree"].value == pytest.approx(2 / 6)


def test_who_prefers_the_first_position_is_biased():
  found = preference_measures(votes([1, 1, 1, 1], [0, 0, 0, 1], [1, -1, 1, -1]))
  assert found["position_bias"].value == pytest.approx(0.75)


def test_flips_by_hand():
  # 2 c (K - c) / (K (K - 1)) is 0 and 2/3 of three repeats, 1 of two: a mean of 5/9.
  repeats = np.array([[1, 1, 1], [1, 0, 1], [0, 1, np.nan]])
  assert flip_probability(repeats) == 0.5
  assert flip_probability(repeats[:2]) == pytest.approx((1 - np.sqrt(1 - 2 / 3)) / 2)
  assert flip_probability(repeats[:1]) == 0
  assert np.isnan(flip_probability(np.array([[1.0, np.nan]])))


def test_denoising_undoes_the_noise_of_the_joint_table():
  table = np.array([0.1, 0.2, 0.3, 0.4])  # of (c1, c2) = 00, 01, 10, 11
  flips = (0.1, 0.25)
  observed = np.zeros((2, 2))
  for (a, b), (c, d) in itertools.product(itertools.product((0, 1), repeat=2), repeat=2):
    chance = (1 - flips[0] if a == c else flips[0]) * (1 - flips[1] if b == d else flips[1])
    observed[c, d] += table[2 * a + b] * chance
  counts = np.round(observed.ravel() * 100000).astype(int)
  c = np.repeat(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), counts, axis=0).astype(bool)
  assert denoised_both(c, flips) == pytest.approx(0.4, abs=1e-4)
  own = table[2] + table[3]
  assert denoised_rate(0.9 * own + 0.1 * (1 - own), 0.1) == pytest.approx(own)


def test_what_flips_too_often_is_not_denoised():
  assert np.isnan(denoised_rate(0.6, 0.46)) and np.isnan(denoised_rate(0.6, float("nan")))
  assert np.isnan(denoised_both(np.ones((3, 2), bool), (0.1, 0.46)))
  assert denoised_rate(0.99, 0.1) == 1.0  # a rate is no more than 1


def test_a_noisy_judge_is_found_out():
  rng = np.random.default_rng(0)
  n, repeats, flip = 4000, 5, 0.15
  own = np.stack([rng.random(n) < 0.8, rng.random(n) < 0.6], axis=1)  # prefers the first position
  flipped = rng.random((n, 2, repeats)) < flip
  picks = np.where(flipped, ~own[:, :, None], own[:, :, None]).astype(float)
  given = Votes(picks, np.ones(n))
  # The jackknife of so many would take long here: the estimates alone.
  from apo_jax.evaluate.judge import measures

  found = measures._on_preferences(given)
  assert found["flip_probability"] == pytest.approx(flip, abs=0.01)
  assert found["position_bias_denoised"] == pytest.approx(0.2, abs=0.04)
  assert abs(found["position_bias"]) < 0.17
  assert found["accuracy_both_denoised"] == pytest.approx(0.48, abs=0.04)
  assert found["accuracy_random_denoised"] == pytest.approx(0.7, abs=0.03)
  assert measures._on_policies(given)["win_rate_denoised"] == pytest.approx(0.7, abs=0.03)


def test_what_has_no_verdict_in_both_orders_is_missing():
  picks = np.array([[[1.0], [np.nan]], [[1.0], [0.5]], [[np.nan], [np.nan]]])
  both, found = answered(picks, np.array([1.0, 2.0, 3.0]))
  assert both.tolist() == [False, True, False]
  assert found.differences.tolist() == [2.0]
