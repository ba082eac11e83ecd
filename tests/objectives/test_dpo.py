import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives


@functools.partial(jax.jit, static_argnames=("beta", "pairs"))
def dpo(policy, reference, rewards, valid, **options):
  """Returns the loss's sums; lengths play no part."""
  responses = objectives.ScoredResponses(
    policy, reference, jnp.ones(policy.shape, jnp.int32), rewards, valid
  )
  return objectives.DPO(**options)(responses)


def dpo_loss(*arrays, **options):
  """Returns the mean loss and metrics."""
  sums = dpo(*arrays, **options)
  return sums.mean, {name: total / sums.count for name, total in sums.metrics.items()}


REFERENCE = jnp.array([[-10.0, -20.0, -30.0]])
POLICY = REFERENCE + jnp.array([[1.0, -2.0, 0.5]])
REWARDS = jnp.array([[2.0, 0.0, 1.0]])
VALID = jnp.ones((1, 3), bool)


def cost(margin):
  return math.log1p(math.exp(-margin))


def test_policy_at_its_reference_costs_log_two():
  loss, metrics = dpo_loss(REFERENCE, REFERENCE, REWARDS, VALID, beta=0.1)
  assert loss == pytest.approx(math.log(2), rel=1e-6)
  assert metrics == {"accuracy": 0.5, "margin": 0}  # a tie is a half


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


def test_metrics_are_sums_over_the_pairs_of_the_loss():
  sums = dpo(POLICY, REFERENCE, REWARDS, VALID, beta=0.5, pairs="all")
  assert sums.count == 3
  assert sums.metrics["margin"] == pytest.approx(1.5 + 0.25 + 1.25)
  assert sums.metrics["accuracy"] == 3


def test_mean_is_over_the_pairs_of_the_batch():
  # The second query's rewards are equal: it has no pair and takes no part in the mean.
  policy, reference = jnp.tile(POLICY, (2, 1)), jnp.tile(REFERENCE, (2, 1))
  rewards = jnp.concatenate([REWARDS, jnp.zeros((1, 3))])
  loss, _ = dpo_loss(policy, reference, rewards, jnp.ones((2, 3), bool), beta=0.5)
  assert loss == pytest.approx(cost(1.5), rel=1e-6)


def test_it_reads_the_best_and_the_worst_of_a_query():
  rewards = jnp.array([[2.0, 0.0, 1.0], [1.0, 1.0, 1.0], [3.0, 9.0, 4.0]])
  valid = jnp.array([[True, True, True], [True, True, True], [True, False, True]])
  expected = [[True, True, False], [True, False, False], [True, False, True]]
  assert objectives.DPO().reads(rewards, valid).tolist() == expected
  assert objectives.DPO(pairs="all").reads(rewards, valid).tolist() == valid.tolist()
