import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives

preference_accuracy = jax.jit(objectives.preference_accuracy)

SCORES = jnp.array([[2.0, 1.0, 0.0], [1.0, 0.0, -1.0]])


def test_fraction_of_pairs_in_the_right_order():
  # Right, right, wrong in the first query, wrong in the second; its padding does not count.
  rewards = jnp.array([[2.0, 0.0, 1.0], [0.0, 3.0, -9.0]])
  assert preference_accuracy(rewards, SCORES) == pytest.approx(2 / 4)


def test_constant_reward_is_chance():
  assert preference_accuracy(jnp.ones((2, 3)), SCORES) == 0.5


def test_negated_reward_has_the_complementary_accuracy():
  rewards = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)), jnp.float32)
  total = preference_accuracy(rewards, SCORES) + preference_accuracy(-rewards, SCORES)
  assert total == pytest.approx(1.0)


@pytest.mark.parametrize("garbage", [1e9, np.nan])
def test_padding_is_ignored(garbage):
  rewards = jnp.array([[2.0, 0.0, 1.0], [0.0, 3.0, garbage]])
  assert preference_accuracy(rewards, SCORES) == pytest.approx(2 / 4)


def test_no_pairs_give_nan():
  assert np.isnan(preference_accuracy(jnp.ones((1, 2)), jnp.zeros((1, 2))))
  assert np.isnan(preference_accuracy(jnp.zeros((0, 2)), jnp.zeros((0, 2))))
