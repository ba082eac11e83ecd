"""RSO's selection: how many stay, and how often each does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.objectives import RejectionSelection

QUERIES = 20_000
KEYS = jnp.stack([jnp.arange(QUERIES, dtype=jnp.uint32)] * 2, axis=1)


def stays(rewards, valid=None, **options):
  """How often each sample stays, over many queries of the same rewards."""
  rewards = jnp.broadcast_to(jnp.asarray(rewards, jnp.float32), (QUERIES, len(rewards)))
  valid = (
    jnp.ones(rewards.shape, bool)
    if valid is None
    else jnp.broadcast_to(jnp.asarray(valid), rewards.shape)
  )
  kept = jax.jit(RejectionSelection(**options))(rewards, valid, KEYS)
  assert not np.any(kept & ~valid)
  return np.asarray(kept)


@pytest.mark.parametrize(("number", "expected"), [(1, 1), (2, 2), (3, 3), (8, 3)])
def test_so_many_stay(number, expected):
  kept = stays([0.0, 1.0, -1.0, 2.0], [True, True, False, True], number=number)
  np.testing.assert_array_equal(kept.sum(axis=1), expected)


def test_the_first_to_stay_is_as_likely_as_its_reward_says():
  """A pass that accepts exactly one of two: r = 0 and -beta log 4, so chances 1 and 1/4.

  The first pass takes the first in the order: sample 0 with chance 1/4, else sample 1.
  """
  kept = stays([-0.5 * np.log(4), 0.0], beta=0.5, number=1)
  np.testing.assert_allclose(kept.mean(axis=0), [0.25, 0.75], atol=4 * 0.003)


def test_later_passes_measure_against_the_best_that_is_left():
  """Of 0, -1 and -3 with beta 1, two stay.

  Sample 0 always does. Sample 1 is taken in the first pass with chance e^-1; else sample 2 with
  e^-3; else the second pass, whose best is sample 1, always takes it.
  """
  kept = stays([0.0, -1.0, -3.0], beta=1.0, number=2)
  of_last = (1 - np.exp(-1)) * np.exp(-3)
  np.testing.assert_allclose(kept.mean(axis=0), [1, 1 - of_last, of_last], atol=4 * 0.0035)


def test_beta_leads_from_the_best_to_an_even_draw():
  rewards = [0.0, 3.0, 1.0, 2.0]
  np.testing.assert_array_equal(stays(rewards, beta=1e-3, number=2).mean(axis=0), [0, 1, 0, 1])
  # All are accepted in the first pass, in their order.
  np.testing.assert_array_equal(stays(rewards, beta=1e9, number=2).mean(axis=0), [1, 1, 0, 0])


def test_most():
  assert RejectionSelection(number=3).most(8) == 3
  assert RejectionSelection(number=3).most(2) == 2
