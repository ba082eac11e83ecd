"""The shortest combination of gradients: anchors, and the head's gradients against JAX's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from apo_jax.objectives import APO, FixedWeights, MinNorm, ScoredRewards, head_gradients
from apo_jax.objectives.min_norm import min_norm_weights
from apo_jax.objectives.subsets import subset_sums


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
  found = weights_by(jnp.array([first, second]), least=0.001)
  np.testing.assert_allclose(found, [share, 1 - share], rtol=2e-5)


@functools.partial(jax.jit, static_argnames="least")
def weights_by(gradients, there=None, least=0.0):
  there = jnp.ones(len(gradients), bool) if there is None else there
  return min_norm_weights(gradients, there, least)


def test_of_orthogonal_gradients_they_are_inverse_squared_lengths():
  lengths = np.array([1.0, 2.0, 0.5, 3.0])
  weights = weights_by(jnp.asarray(np.diag(lengths), jnp.float32))
  expected = lengths**-2.0
  np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-4)
  # The third of no use to the first two: they are each other's opposite already.
  weights = weights_by(jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0]]))
  np.testing.assert_allclose(weights[2], 0.0, atol=1e-5)
  np.testing.assert_allclose(weights_by(jnp.ones((3, 2))), 1 / 3, rtol=3e-3)
  np.testing.assert_allclose(weights_by(jnp.zeros((3, 2))), 1 / 3, rtol=1e-5)


@pytest.mark.parametrize("terms", [2, 3, 5])
def test_no_other_weights_are_shorter(terms):
  """Against scipy's minimiser on the simplex, and against points of it."""
  rng = np.random.default_rng(terms)
  for trial in range(6):
    spread = 1.0 if trial % 2 else 0.1  # mostly parallel: the answer is at the simplex's edge
    gradients = spread * rng.normal(size=(terms, 6)) * rng.uniform(0.2, 2, (terms, 1)) + 0.3
    weights = np.asarray(weights_by(jnp.asarray(gradients, jnp.float32)), float)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1, abs=1e-6)

    def squared(point, gradients=gradients):
      return float(np.sum((point @ gradients) ** 2))

    best = scipy.optimize.minimize(
      squared,
      np.full(terms, 1 / terms),
      bounds=[(0, 1)] * terms,
      constraints={"type": "eq", "fun": lambda point: point.sum() - 1},
      options={"ftol": 1e-14, "maxiter": 500},
    )
    assert squared(weights) == pytest.approx(best.fun, rel=1e-3, abs=1e-6)
    others = rng.dirichlet(np.ones(terms), 300)
    assert squared(weights) <= min(map(squared, others)) + 1e-6


def test_terms_that_are_not_there_weigh_nothing_and_the_least_comes_off_the_largest():
  gradients = jnp.asarray(np.diag([1.0, 1.0, 1e-3]), jnp.float32)
  without = weights_by(gradients, jnp.array([True, True, False]))
  np.testing.assert_allclose(without, [0.5, 0.5, 0.0], rtol=1e-5)
  np.testing.assert_allclose(weights_by(gradients, least=0.01), [0.01, 0.01, 0.98], atol=1e-5)
  np.testing.assert_array_equal(weights_by(gradients, jnp.zeros(3, bool)), 0)


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


def test_subsets_of_preferences_are_terms_of_their_own():
  """Their totals and gradients add up to the preference term's, and each is the term of a batch of
  its preferences alone."""
  read, _ = batch()
  read = read._replace(preference_subsets=jnp.array([1, 0, 1]))
  loss, names = APO(), ("here", "there", "nowhere")
  parts, whole = subset_sums(loss, read, names), loss(read)["preference"]
  assert list(parts) == ["preference_here", "preference_there", "preference_nowhere"]
  assert sum(float(one.total) for one in parts.values()) == pytest.approx(float(whole.total))
  assert [int(one.count) for one in parts.values()] == [1, 1, 0]
  alone = loss(
    ScoredRewards(preferences=read.preferences[1:2], preference_scores=read.preference_scores[1:2])
  )["preference"]
  np.testing.assert_allclose(parts["preference_here"].total, alone.total)
  margin = parts["preference_here"].metrics["preference_here_margin"]
  np.testing.assert_allclose(margin, alone.metrics["preference_margin"])
  gradients, plain = head_gradients(loss, read, names), head_gradients(loss, read)
  assert list(gradients) == [*parts, "golden"]
  np.testing.assert_allclose(sum(gradients[name] for name in parts), plain["preference"], atol=1e-6)
  np.testing.assert_allclose(gradients["golden"], plain["golden"])


def test_fixed_weights_are_the_coefficients():
  assert FixedWeights().weights({}, {}, {}) is None and not FixedWeights.needs_head_gradients
