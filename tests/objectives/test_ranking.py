import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives

ranking = jax.jit(objectives.ranking_loss, static_argnames="kind")


def ranking_loss(*arrays, **options):
  return ranking(*arrays, **options).mean


def count_pairs(scores):
  return ranking(jnp.zeros(scores.shape), scores).count


def test_two_responses_are_textbook_bradley_terry():
  better = jnp.array([1.5, -0.25, 0.0])
  worse = jnp.array([0.5, 0.75, 0.0])
  rewards = jnp.stack([better, worse], axis=1)
  scores = jnp.tile(jnp.array([[1.0, 0.0]]), (3, 1))
  expected = np.mean([math.log1p(math.exp(-m)) for m in (1.0, -1.0, 0.0)])
  assert ranking_loss(rewards, scores) == pytest.approx(expected, rel=1e-6)
  # d/dr_better of -log sigmoid(margin) is -(1 - sigmoid(margin)), over three pairs.
  gradient = jax.grad(ranking_loss)(rewards, scores)
  surprise = 1 - jax.nn.sigmoid(better - worse)
  np.testing.assert_allclose(gradient[:, 0], -surprise / 3, rtol=1e-5)
  np.testing.assert_allclose(gradient[:, 1], surprise / 3, rtol=1e-5)


def test_untrained_reward_costs_log_two():
  scores = jnp.array([[3.0, 2.0, 1.0, -1.0]])
  assert ranking_loss(jnp.zeros((1, 4)), scores) == pytest.approx(math.log(2), rel=1e-6)


def test_difference_is_the_mean_negative_margin():
  rewards = jnp.array([[3.0, 1.0, 0.0]])
  scores = jnp.array([[1.0, 0.0, 0.0]])
  assert ranking_loss(rewards, scores, kind="difference") == pytest.approx(-2.5)


def test_mean_is_over_pairs_not_over_queries():
  # Three pairs of margin 1, 2, 1 in the first query, one of margin -4 in the second.
  rewards = jnp.array([[2.0, 1.0, 0.0], [0.0, 4.0, 9.0]])
  scores = jnp.array([[2.0, 1.0, 0.0], [1.0, 0.0, -1.0]])
  assert count_pairs(scores) == 4
  assert ranking_loss(rewards, scores, kind="difference") == pytest.approx(0.0)


def test_count_pairs_ignores_ties_and_padding():
  assert count_pairs(jnp.array([[1.0, 1.0, 0.0], [2.0, -1.0, -1.0]])) == 2
  assert count_pairs(jnp.array([[-1.0, -2.0]])) == 0
  assert count_pairs(jnp.zeros((0, 3))) == 0


def test_unknown_kind_is_refused():
  with pytest.raises(ValueError, match="kind is 'hinge'"):
    ranking_loss(jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]]), kind="hinge")


def test_metrics_are_sums_over_pairs():
  rewards = jnp.array([[3.0, 1.0, 1.0, 9.0]])
  scores = jnp.array([[0.0, 1.0, 2.0, -1.0]])
  # Margins 1 - 3, 1 - 3 and 1 - 1: none right, the tie half.
  metrics = ranking(rewards, scores).metrics
  assert metrics == {"margin": -4.0, "accuracy": 0.5}
