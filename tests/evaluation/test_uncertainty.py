"""Standard errors: against their formulas, against leaving queries out one by one, and in truth."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.evaluation.standard import standard_numbers
from apo_jax.evaluation.uncertainty import Measured, mean, ratio
from apo_jax.objectives import calibration_errors
from tests.evaluation.rounds import random_round


def test_the_error_of_a_mean_is_the_textbook_s():
  values = np.random.default_rng(0).normal(size=20)
  expected = np.std(values, ddof=1) / math.sqrt(20)
  assert mean(values).standard_error == pytest.approx(expected)
  # A mean is a ratio as well: the same pseudo-values.
  as_ratio = ratio(values, np.ones(20))
  np.testing.assert_allclose(as_ratio.pseudo_values, values)


def test_the_error_of_a_ratio_by_leaving_out():
  totals, counts = np.array([1.0, 0.0, 2.5, 0.0]), np.array([1.0, 3.0, 3.0, 0.0])
  estimate = ratio(totals, counts)
  keep = 1 - np.eye(4)
  without = [(totals * row).sum() / (counts * row).sum() for row in keep]
  expected = math.sqrt(3 / 4 * np.sum((without - np.mean(without)) ** 2))
  assert estimate.value == 3.5 / 7
  assert estimate.standard_error == pytest.approx(expected)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_fewer_than_two_queries_have_no_error(values):
  assert math.isnan(mean(np.array(values)).standard_error)
  assert math.isnan(ratio(np.array(values), np.array(values)).standard_error)


def without_query(judged, place):
  """The round without a query, and without the preference that stands there."""
  changes = {}
  for field in dataclasses.fields(judged):
    value = getattr(judged, field.name)
    if isinstance(value, np.ndarray):
      changes[field.name] = np.delete(value, place, axis=0)
    elif isinstance(value, list):
      changes[field.name] = value[:place] + value[place + 1 :]
  return dataclasses.replace(judged, **changes)


def estimates_of(judged):
  numbers = standard_numbers(judged, calibration_bins=5)
  return {**numbers.queries.estimates, **numbers.preferences.estimates}


def test_every_number_s_pseudo_values_by_leaving_out():
  judged = random_round(0)
  whole = estimates_of(judged)
  left_out = [estimates_of(without_query(judged, place)) for place in range(12)]
  assert "distinct_2" in whole and "reward_mce" in whole
  for name, estimate in whole.items():
    expected = [12 * estimate.value - 11 * one[name].value for one in left_out]
    np.testing.assert_allclose(estimate.pseudo_values, expected, atol=1e-5, err_msg=name)


def test_calibration_is_the_objective_s():
  judged = random_round(1)
  rewards, scores = judged.trained_preference_rewards, judged.preference_scores
  expected = calibration_errors(
    *(jnp.asarray(each, jnp.float32) for each in (rewards, scores)), num_bins=5
  )
  numbers = standard_numbers(judged, calibration_bins=5)
  for name in ("ece", "ace", "mce"):
    found = numbers.preferences.estimates[f"reward_{name}"].value
    assert found == pytest.approx(float(expected[name]), abs=1e-6)
  for name, bins in numbers.calibration.items():
    np.testing.assert_allclose(bins, expected[name], atol=1e-6, err_msg=name)


def test_a_round_does_not_differ_from_itself():
  numbers = standard_numbers(random_round(0), calibration_bins=5)
  for measured in (numbers.queries, numbers.preferences):
    for name, found in measured.minus(measured).items():
      assert found == (0.0, 0.0), name


def measured(ids, values):
  return Measured(ids, {"number": mean(np.array(values))})


def test_differences_are_over_the_queries_that_both_have():
  ours = measured(["a", "b", "a", "c"], [1.0, 2.0, 3.0, 9.0])
  theirs = measured(["d", "a", "a", "b"], [9.0, 0.5, 2.0, 2.5])
  # a, b and the second a: 0.5, -0.5 and 1.
  found = ours.minus(theirs)["number"]
  assert found.difference == pytest.approx(1 / 3)
  assert found.standard_error == pytest.approx(np.std([0.5, -0.5, 1.0], ddof=1) / math.sqrt(3))
  alone = ours.minus(measured(["x"], [1.0]))["number"]
  assert math.isnan(alone.difference) and math.isnan(alone.standard_error)
  unknown = ours.minus(Measured(theirs.ids, {}))["number"]
  assert math.isnan(unknown.difference) and math.isnan(unknown.standard_error)


def test_a_difference_of_ratios_is_that_of_the_numbers():
  one, other = random_round(0), random_round(1)
  ours, theirs = (standard_numbers(each, calibration_bins=5).preferences for each in (one, other))
  for name, found in ours.minus(theirs).items():
    expected = ours.estimates[name].value - theirs.estimates[name].value
    assert found.difference == pytest.approx(expected), name


def test_nineteen_of_twenty_intervals_hold_the_truth():
  """Two errors to both sides, by simulation: of a mean, of a ratio, of a paired difference."""
  random = np.random.default_rng(0)
  tries, held, ids = 600, np.zeros(3), [str(query) for query in range(60)]
  for _ in range(tries):
    counts = random.integers(1, 5, 60).astype(float)
    # What is right depends on the query: pairs of one are not independent.
    hard = random.random(60)
    totals = random.binomial(counts.astype(int), hard).astype(float)
    values, others = hard + random.normal(size=(2, 60)) * 0.1 + [[0.0], [0.05]]
    difference = measured(ids, others).minus(measured(ids, values))["number"]
    for place, (value, error, truth) in enumerate(
      [
        (mean(values).value, mean(values).standard_error, 0.5),
        (ratio(totals, counts).value, ratio(totals, counts).standard_error, 0.5),
        (*difference, 0.05),
      ]
    ):
      held[place] += abs(value - truth) < 1.96 * error
    # Paired, what is hard cancels.
    assert difference.standard_error < 0.8 * mean(values).standard_error
  assert np.all((held / tries > 0.92) & (held / tries < 0.975)), held / tries
