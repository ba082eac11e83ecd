import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives

calibration_errors = jax.jit(objectives.calibration_errors, static_argnames="num_bins")
PAIR = jnp.array([[1.0, 0.0]])
SUMMARY = ("ece", "ace", "mce")


def test_one_pair_by_hand():
  # p = 0.8 with label 1 and p = 0.2 with label 0: both are off by 0.2.
  errors = calibration_errors(jnp.array([[math.log(4.0), 0.0]]), PAIR, num_bins=4)
  for name in SUMMARY:
    assert errors[name] == pytest.approx(0.2, rel=1e-5)
  np.testing.assert_allclose(errors["count"], [1, 0, 0, 1])
  np.testing.assert_allclose(errors["confidence"], [0.2, np.nan, np.nan, 0.8], rtol=1e-5)
  np.testing.assert_allclose(errors["accuracy"], [0, np.nan, np.nan, 1])


def test_expected_average_and_maximum_weigh_bins_differently():
  # Three pairs at p = 0.5, in one bin with both labels, and one pair that is wrong for sure.
  rewards = jnp.array([[0.0, 0.0]] * 3 + [[-1000.0, 0.0]])
  errors = calibration_errors(rewards, jnp.tile(PAIR, (4, 1)))
  np.testing.assert_allclose(errors["count"], [1, 0, 0, 0, 6, 0, 0, 0, 0, 1])
  assert errors["ece"] == pytest.approx(2 / 8)
  assert errors["ace"] == pytest.approx(2 / 3)
  assert errors["mce"] == pytest.approx(1.0)


def test_true_probabilities_are_calibrated():
  # 4 of 5 pairs are won where sigmoid(r_i - r_j) is 0.8.
  rewards = jnp.array([[math.log(4.0), 0.0]] * 4 + [[0.0, math.log(4.0)]])
  errors = calibration_errors(rewards, jnp.tile(PAIR, (5, 1)), num_bins=4)
  for name in SUMMARY:
    assert errors[name] == pytest.approx(0.0, abs=1e-6)


def test_ends_and_edges_of_the_bins():
  # p = 1 is in the last bin, p = 0 in the first, and p on an inner edge in the bin below it.
  certain = calibration_errors(jnp.array([[1000.0, 0.0]]), PAIR, num_bins=3)
  np.testing.assert_allclose(certain["count"], [1, 0, 1])
  assert certain["mce"] == 0
  undecided = calibration_errors(jnp.array([[0.0, 0.0]]), PAIR, num_bins=2)
  np.testing.assert_allclose(undecided["count"], [2, 0])


def test_one_bin_is_calibrated_by_symmetry():
  rewards = jnp.array([[3.0, -2.0, 0.5]])
  errors = calibration_errors(rewards, jnp.array([[0.0, 1.0, 2.0]]), num_bins=1)
  np.testing.assert_allclose(errors["count"], [6])
  assert errors["ece"] == pytest.approx(0.0, abs=1e-6)


def test_ties_and_padding_are_ignored():
  rewards = jnp.array([[math.log(4.0), 0.0, 1e9], [2.0, 1.0, np.nan]])
  scores = jnp.array([[1.0, 0.0, -1.0], [1.0, 1.0, -1.0]])
  errors = calibration_errors(rewards, scores, num_bins=4)
  expected = calibration_errors(rewards[:1, :2], scores[:1, :2], num_bins=4)
  for name, value in expected.items():
    np.testing.assert_allclose(errors[name], value, err_msg=name)


def test_shift_of_a_query_and_order_of_responses_change_nothing():
  rng = np.random.default_rng(0)
  rewards = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
  scores = jnp.asarray(rng.integers(-1, 3, size=(3, 4)), jnp.float32)
  expected = calibration_errors(rewards, scores)
  shifted = calibration_errors(
    (rewards + jnp.array([[1.0], [-2.0], [4.0]]))[:, ::-1], scores[:, ::-1]
  )
  for name, value in expected.items():
    np.testing.assert_allclose(shifted[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_no_pairs_give_nan():
  errors = calibration_errors(jnp.ones((1, 2)), jnp.zeros((1, 2)), num_bins=3)
  for name in (*SUMMARY, "confidence", "accuracy"):
    assert np.all(np.isnan(errors[name]))
  np.testing.assert_allclose(errors["count"], [0, 0, 0])
