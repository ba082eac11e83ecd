"""The shortest combination of two gradients: anchors, and the head's gradients against JAX's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.objectives import APO, FixedWeights, MinNorm, ScoredRewards, head_gradients
from apo_jax.objectives.min_norm import min_norm_share


@pytest.mark.parametrize(
  ("first", "second", "share"),
  [
    ([1.0, 0.0], [0.0, 1.0], 0.5),  # orthogonal
    ([2.0, 0.0], [0.0, 1.0], 0.2),  # inversely as the squared lengths
    ([3.0, 4.0], [3.0, 4.0], 0.5),  # equal: every share does
    ([1.0, 0.0], [3.0, 0.0], 0.999),  # the shorter one, as far as `least` goes
    ([3.0, 1.0], [1.0, 0.0], 0.001),
    ([1.0, 0.0], [-1.0, 0.0], 0.5),  # opposite: nothing moves
    ([0.0, 0.0], [5.0, 1.0], 0.999),
    ([0.0, 0.0], [0.0, 0.0], 0.5),
  ],
)
def test_shares_by_hand(first, second, share):
  found = min_norm_share(jnp.array(first), jnp.array(second), 0.001)
  np.testing.assert_allclose(found, share, rtol=1e-6)


def test_no_other_share_is_shorter():
  rng = np.random.default_rng(0)
  for _ in range(5):
    first, second = rng.normal(size=(2, 6)) * rng.uniform(0.2, 2, (2, 1)) + 0.3
    share = float(min_norm_share(jnp.asarray(first), jnp.asarray(second)))
    shares = np.linspace(0, 1, 201)[:, None]
    lengths = np.linalg.norm(shares * first + (1 - shares) * second, axis=1)
    assert np.linalg.norm(share * first + (1 - share) * second) <= lengths.min() + 1e-4


def batch(golden_scores=((1.0, 0.0, -1.0), (1.0, 0.0, 0.0))) -> tuple[ScoredRewards, jax.Array]:
  rng = np.random.default_rng(3)
  head = jnp.asarray(rng.normal(size=5), jnp.float32)
  embeddings = jnp.asarray(rng.normal(size=(3, 2, 5)), jnp.float32)
  golden = jnp.asarray(rng.normal(size=(2, 3, 5)), jnp.float32)
  scores = jnp.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])
  given = {"preference_embeddings": embeddings, "golden_embeddings": golden}
  twins = jnp.array([1.0, 0.0])
  read = ScoredRewards(
    embeddings @ head, scores, golden @ head, jnp.asarray(golden_scores), twins, **given
  )
  return read, head


@pytest.mark.parametrize("kind", ["ranking", "difference"])
def test_head_gradients_are_those_of_automatic_differentiation(kind):
  loss = APO(kind=kind)

  def total(head, name, read):
    rewards = read.preference_embeddings @ head, read.golden_embeddings @ head
    return loss(read._replace(preferences=rewards[0], golden=rewards[1]))[name].total

  @jax.jit
  def both(read, head):
    found = head_gradients(loss, read)
    return found, {name: jax.grad(total)(head, name, read) for name in found}

  found, expected = both(*batch())
  assert found.keys() == {"preference", "golden"}
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), found, expected)


@functools.partial(jax.jit, static_argnums=0)
def weights_of(weighting, read: ScoredRewards):
  loss = APO()
  gradients, sums = head_gradients(loss, read), loss(read)
  counts = {name: sums[name].count for name in gradients}
  means = {name: sums[name].mean for name in gradients}
  return weighting.weights(
    {name: one / jnp.maximum(counts[name], 1) for name, one in gradients.items()}, means, counts
  )


@pytest.mark.parametrize("normalisation", ["none", "loss", "loss_and_norm"])
def test_weights_sum_to_one(normalisation):
  weights = weights_of(MinNorm(normalisation), batch()[0])
  np.testing.assert_allclose(sum(weights.values()), 1.0, rtol=1e-6)
  assert 0 < float(weights["golden"]) < 1


def test_a_term_without_pairs_leaves_the_other_alone():
  without = batch(golden_scores=[[1.0, -1.0, -1.0]] * 2)[0]._replace(golden_twins=None)
  assert weights_of(MinNorm(), without) == {"preference": 1.0, "golden": 0.0}
  preferences = without._replace(golden=None, golden_scores=None, golden_embeddings=None)
  assert weights_of(MinNorm(), preferences) is None  # the coefficient of `APO` stays


def test_fixed_weights_are_the_coefficients():
  assert FixedWeights().weights({}, {}, {}) is None and not FixedWeights.needs_head_gradients
