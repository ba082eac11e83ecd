"""Shapings in numbers by hand, and what each leaves as it is."""

import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.evaluation.whitening import whitening
from apo_jax.objectives import (
  AdvPO,
  Contrastive,
  LengthPenalty,
  MissingEnd,
  PreferenceAsReward,
  SampledRewards,
  Shaping,
  UncertaintyPenalty,
)
from apo_jax.objectives.advpo import worst_direction

DIM = 4


def embeddings(seed, *shape):
  return np.random.default_rng(seed).normal(size=(*shape, DIM)) + 1.0


TRAINED_ON, OF_SAMPLES, OF_GOLDEN = embeddings(0, 50), embeddings(1, 3, 2), embeddings(2, 5)
SECOND_MOMENT = TRAINED_ON.T @ TRAINED_ON
WHITEN = whitening(SECOND_MOMENT, 0.01)
HEAD = np.array([0.5, -1.0, 2.0, 0.25])
SAMPLES = SampledRewards(
  rewards=jnp.asarray(OF_SAMPLES @ HEAD, jnp.float32),
  lengths=jnp.array([[3, 4], [10, 0], [7, 7]]),
  finished=jnp.array([[True, True], [True, False], [True, True]]),
  logprobs=jnp.full((3, 2), -1.0),
  baseline_rewards=jnp.array([[0.0, 1.0, 5.0], [2.0, 2.0, 2.0], [-1.0, 0.0, 4.0]]),
  whitened=jnp.asarray(WHITEN(OF_SAMPLES.reshape(-1, DIM)).reshape(3, 2, DIM)),
  golden_whitened=jnp.asarray(WHITEN(OF_GOLDEN)),
)


@pytest.mark.parametrize(
  ("over", "taken"), [("mean", [2, 2, 1]), ("median", [1, 2, 0]), ("max", [5, 2, 4])]
)
def test_contrastive_takes_the_baselines_reward(over, taken):
  found = Contrastive(over=over)(SAMPLES)
  np.testing.assert_allclose(found, SAMPLES.rewards - np.array(taken)[:, None], rtol=1e-6)


def test_contrastive_sees_no_number_that_a_reward_model_adds():
  added = jnp.array([[3.0], [-2.0], [0.5]])
  moved = SAMPLES._replace(
    rewards=SAMPLES.rewards + added, baseline_rewards=SAMPLES.baseline_rewards + added
  )
  np.testing.assert_allclose(Contrastive()(moved), Contrastive()(SAMPLES), rtol=1e-5)


def test_par_is_how_often_a_sample_is_preferred():
  samples = SAMPLES._replace(
    rewards=jnp.array([[0.0, 1.0]]), baseline_rewards=jnp.array([[0.0, 1.0]])
  )
  up, down = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))
  np.testing.assert_allclose(
    PreferenceAsReward()(samples), [[(0.5 + down) / 2, (up + 0.5) / 2]], rtol=1e-6
  )


def test_a_token_has_its_price():
  found = LengthPenalty(coefficient=0.5)(SAMPLES)
  np.testing.assert_allclose(found, SAMPLES.rewards - SAMPLES.lengths / 2, rtol=1e-6)


def test_a_missing_end_has_its_price():
  change = MissingEnd(penalty=0.5)(SAMPLES) - SAMPLES.rewards
  np.testing.assert_allclose(change, [[0, 0], [0, -0.5], [0, 0]], atol=1e-6)


def test_uncertainty_is_the_length_in_units_of_what_was_trained_on():
  of_trained_on = np.linalg.norm(WHITEN(TRAINED_ON), axis=1)
  assert of_trained_on.max() <= 1  # M has each of them
  ridge = 0.01 * np.trace(SECOND_MOMENT) / DIM * np.eye(DIM)
  inverse = np.linalg.inv(SECOND_MOMENT + ridge)
  expected = np.sqrt(np.einsum("qsd,de,qse->qs", OF_SAMPLES, inverse, OF_SAMPLES))
  found = UncertaintyPenalty(coefficient=2.0)(SAMPLES)
  np.testing.assert_allclose(found, SAMPLES.rewards - 2 * expected, rtol=1e-4)
  # Four times as much data halves it.
  halved = whitening(4 * SECOND_MOMENT, 0.01)(OF_GOLDEN)
  np.testing.assert_allclose(
    2 * np.linalg.norm(halved, axis=1), np.linalg.norm(WHITEN(OF_GOLDEN), axis=1), rtol=1e-5
  )


def test_nothing_trained_on_has_a_whitening():
  assert np.isfinite(whitening(np.zeros((DIM, DIM)), 0.01)(OF_GOLDEN)).all()


def test_advpo_is_the_worst_head_within_its_bound():
  """phi' = phi - bound * M^-1 g / sqrt(g^T M^-1 g): no other head of the ball is worse."""
  unit = worst_direction(SAMPLES.whitened, SAMPLES.golden_whitened)
  moment = SECOND_MOMENT + 0.01 * np.trace(SECOND_MOMENT) / DIM * np.eye(DIM)
  gap = OF_SAMPLES.mean((0, 1)) - OF_GOLDEN.mean(0)
  step = np.linalg.solve(moment, gap) / np.sqrt(gap @ np.linalg.solve(moment, gap))
  np.testing.assert_allclose(unit, OF_SAMPLES @ step, rtol=1e-3, atol=1e-5)
  rng = np.random.default_rng(3)
  for _ in range(100):
    other = rng.normal(size=DIM)
    other /= np.sqrt(other @ moment @ other)
    assert -gap @ other >= -gap @ step - 1e-9
  # What samples lose against golden responses is the whole of the bound.
  of_golden = OF_GOLDEN @ step
  assert np.mean(unit) - of_golden.mean() == pytest.approx(
    np.sqrt(gap @ np.linalg.solve(moment, gap)), rel=1e-3
  )


@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0])
def test_advpos_shift_is_as_large_as_it_is_asked_to_be(strength):
  shift = AdvPO(strength=strength)(SAMPLES) - SAMPLES.rewards
  assert jnp.std(shift) == pytest.approx(strength * float(jnp.std(SAMPLES.rewards)), rel=1e-4)
  # It takes where samples lie beyond golden responses, and gives on the other side.
  unit = worst_direction(SAMPLES.whitened, SAMPLES.golden_whitened)
  bound = strength * jnp.std(SAMPLES.rewards) / jnp.std(unit)
  np.testing.assert_allclose(shift, -bound * unit, rtol=1e-4, atol=1e-5)


def test_advpo_without_a_gap_changes_nothing():
  same = SAMPLES._replace(golden_whitened=SAMPLES.whitened.reshape(-1, DIM))
  np.testing.assert_allclose(AdvPO()(same), SAMPLES.rewards, rtol=1e-6)


@pytest.mark.parametrize("name", Shaping.known)
def test_what_a_shaping_says_of_itself_is_true(name):
  """As the check of a config goes by it."""
  shaping = Shaping.known[name]()
  found = np.asarray(shaping(SAMPLES))
  change = found - np.asarray(SAMPLES.rewards)
  assert shaping.shifts_queries == np.allclose(change[:, 0], change[:, 1])
  if shaping.keeps_order:
    order = np.argsort(SAMPLES.rewards, axis=1)
    np.testing.assert_array_equal(np.argsort(found, axis=1), order)
  nothing = SAMPLES._replace(baseline_rewards=None)
  if not shaping.reads_baselines:
    shaping(nothing)
  if not shaping.reads_embeddings:
    shaping(SAMPLES._replace(whitened=None, golden_whitened=None))
