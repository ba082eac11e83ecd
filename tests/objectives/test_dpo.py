import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives

dpo_loss = jax.jit(objectives.dpo_loss, static_argnames=("beta", "pairs"))

REFERENCE = jnp.array([[-10.0, -20.0, -30.0]])
POLICY = REFERENCE + jnp.array([[1.0, -2.0, 0.5]])
REWARDS = jnp.array([[2.0, 0.0, 1.0]])
VALID = jnp.ones((1, 3), bool)


def cost(margin):
  return math.log1p(math.exp(-margin))


def test_policy_at_its_reference_costs_log_two():
  loss, metrics = dpo_loss(REFERENCE, REFERENCE, REWARDS, VALID, beta=0.1)
  assert loss == pytest.approx(math.log(2), rel=1e-6)
  assert metrics == {"accuracy": 0, "margin": 0}


@pytest.mark.parametrize(
  ("pairs", "margins"),
  [("best_worst", [1.5]), ("best_rest", [1.5, 0.25]), ("all", [1.5, 0.25, 1.25])],
)
def test_closed_form(pairs, margins):
  loss, metrics = dpo_loss(POLICY, REFERENCE, REWARDS, VALID, beta=0.5, pairs=pairs)
  assert loss == pytest.approx(np.mean([cost(margin) for margin in margins]), rel=1e-6)
  assert metrics["margin"] == pytest.approx(np.mean(margins), rel=1e-6)
  assert metrics["accuracy"] == 1


def test_accuracy_is_the_fraction_of_positive_margins():
  rewards = jnp.array([[1.0, 0.0, 2.0]])
  _, metrics = dpo_loss(POLICY, REFERENCE, rewards, VALID, beta=0.5, pairs="all")
  assert metrics["accuracy"] == pytest.approx(2 / 3)


def test_gradient_is_weighted_by_how_wrong_the_implicit_reward_is():
  def loss(policy):
    return dpo_loss(policy, REFERENCE, REWARDS, VALID, beta=0.5)[0]

  weight = 0.5 / (1 + math.exp(1.5))
  np.testing.assert_allclose(jax.grad(loss)(POLICY), [[-weight, weight, 0.0]], rtol=1e-5)


def test_metrics_share_the_normalizer_of_the_loss():
  loss, metrics = dpo_loss(POLICY, REFERENCE, REWARDS, VALID, beta=0.5, normalizer=jnp.asarray(4.0))
  assert loss == pytest.approx(cost(1.5) / 4, rel=1e-6)
  assert metrics["margin"] == pytest.approx(1.5 / 4)
  assert metrics["accuracy"] == pytest.approx(1 / 4)


def test_mean_is_over_the_pairs_of_the_batch():
  # The second query's rewards are equal: it has no pair and takes no part in the mean.
  policy, reference = jnp.tile(POLICY, (2, 1)), jnp.tile(REFERENCE, (2, 1))
  rewards = jnp.concatenate([REWARDS, jnp.zeros((1, 3))])
  loss, _ = dpo_loss(policy, reference, rewards, jnp.ones((2, 3), bool), beta=0.5)
  assert loss == pytest.approx(cost(1.5), rel=1e-6)


def test_unknown_pairs_are_refused():
  with pytest.raises(ValueError, match="selection is 'random'"):
    dpo_loss(POLICY, REFERENCE, REWARDS, VALID, beta=0.1, pairs="random")
