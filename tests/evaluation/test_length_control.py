"""The length-controlled win rate: closed forms, and a fit by other means."""

import numpy as np
import pytest
from scipy.optimize import minimize

from apo_jax.evaluation.length_control import fit, length_controlled_win_rate


def data(seed=0, count=60):
  rng = np.random.default_rng(seed)
  differences = rng.normal(scale=30, size=count) + 20
  chance = 1 / (1 + np.exp(-(0.4 + 1.5 * np.tanh(differences / np.std(differences)))))
  return (rng.random(count) < chance).astype(float), differences


def test_the_fit_is_that_of_another_optimiser():
  wins, differences = data()
  wins[:7] = 0.5
  features = np.tanh(differences / np.std(differences))

  def loss(theta_phi):
    logits = theta_phi[0] + theta_phi[1] * features
    chance = 1 / (1 + np.exp(-logits))
    likelihood = wins * np.log(chance) + (1 - wins) * np.log(1 - chance)
    return -np.sum(likelihood) + theta_phi[1] ** 2 / 2

  expected = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9}).x
  np.testing.assert_allclose(fit(wins, features), expected, atol=1e-5)


def test_without_a_difference_in_length_it_is_the_win_rate():
  wins = np.array([1.0, 1, 0, 0.5, 1])
  assert length_controlled_win_rate(wins, np.full(5, 7.0)).value == pytest.approx(0.7)
  # Nor where lengths are as often the one way as the other, whoever wins.
  wins, differences = np.array([1.0, 1, 0, 0]), np.array([5.0, -5, 5, -5])
  assert length_controlled_win_rate(wins, differences).value == pytest.approx(0.5)


def test_wins_by_length_alone_are_taken_out():
  rng = np.random.default_rng(1)
  differences = rng.normal(scale=40, size=500) + 40  # ours is mostly longer
  chance = 1 / (1 + np.exp(-2 * np.tanh(differences / 40)))  # and has nothing else
  wins = (rng.random(500) < chance).astype(float)
  found = length_controlled_win_rate(wins, differences)
  assert np.mean(wins) > 0.7
  assert abs(found.value - 0.5) < 2 * found.standard_error < 0.2


def test_all_wins_are_all_wins():
  assert length_controlled_win_rate(np.ones(4), np.arange(4.0)).value == 1.0
  assert length_controlled_win_rate(np.zeros(4), np.arange(4.0)).value == 0.0
  assert np.isnan(length_controlled_win_rate(np.zeros(0), np.zeros(0)).value)


def test_it_is_opposite_for_the_opponent():
  wins, differences = data(2)
  ours, theirs = (
    length_controlled_win_rate(*given) for given in ((wins, differences), (1 - wins, -differences))
  )
  assert ours.value + theirs.value == pytest.approx(1)
  assert ours.standard_error == pytest.approx(theirs.standard_error)
