import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives


def ranking_loss(*arrays, **options):
  return objectives.ranking_loss(*arrays, **options).mean


def sums_of(preference, preference_scores, golden, golden_scores, num_samples, **options):
  """Returns the totals and counts of the terms."""
  sums = objectives.APO(**options)(
    objectives.ScoredRewards(preference, preference_scores, golden, golden_scores)
  )
  sums.pop("golden_pairs", None)  # has no loss
  return ({name: one[part] for name, one in sums.items()} for part in (0, 1))


@functools.partial(
  jax.jit,
  static_argnames=(
    "num_samples",
    "golden_coefficient",
    "preference_coefficient",
    "kind",
    "reduction",
  ),
)
def apo_loss(*arrays, num_samples, counts=None, **options):
  """Returns the loss and its terms, over the batch's own counts or those given."""
  totals, own = sums_of(*arrays, num_samples, **options)
  counts = own if counts is None else counts
  return objectives.APO(**options).combine(totals, counts, num_samples=num_samples)


PREFERENCE_SCORES = jnp.array(
  [[1.0, 0.0, -1.0], [2.0, 1.0, 0.0], [1.0, 1.0, -1.0], [0.0, 1.0, -1.0]]
)
GOLDEN_SCORES = jnp.array([[1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, -1.0, -1.0]])
OPTIONS = {
  "num_samples": 4,
  "golden_coefficient": 0.1,
  "preference_coefficient": 0.8,
  "kind": "ranking",
  "reduction": "mean",
}
both_reductions = pytest.mark.parametrize("reduction", ["mean", "reference"])


@pytest.fixture(name="rewards")
def make_rewards():
  rng = np.random.default_rng(0)
  return tuple(
    jnp.asarray(rng.normal(size=scores.shape), jnp.float32)
    for scores in (PREFERENCE_SCORES, GOLDEN_SCORES)
  )


def loss_of(rewards, **options):
  preference, golden = rewards
  return apo_loss(preference, PREFERENCE_SCORES, golden, GOLDEN_SCORES, **{**OPTIONS, **options})


def reference_total(rewards, kind):
  """Returns the loss as one loop over all rows, a coefficient a row, and one pair count."""
  rows = [(r, s, 0.8, "ranking") for r, s in zip(rewards[0], PREFERENCE_SCORES, strict=True)]
  rows += [(r, s, 0.1 / 4, kind) for r, s in zip(rewards[1], GOLDEN_SCORES, strict=True)]
  total, pairs = 0.0, 0
  for row_rewards, row_scores, coefficient, row_kind in rows:
    for r_i, s_i in zip(row_rewards.tolist(), row_scores.tolist(), strict=True):
      for r_j, s_j in zip(row_rewards.tolist(), row_scores.tolist(), strict=True):
        if s_j >= 0 and s_i > s_j:
          margin = r_i - r_j
          total += coefficient * (
            math.log1p(math.exp(-margin)) if row_kind == "ranking" else -margin
          )
          pairs += 1
  return total / pairs


@pytest.mark.parametrize("kind", ["ranking", "difference"])
def test_reference_reduction_is_the_loop_with_one_denominator(rewards, kind):
  loss, _ = loss_of(rewards, kind=kind, reduction="reference")
  assert loss == pytest.approx(reference_total(rewards, kind), rel=1e-5)


@pytest.mark.parametrize("kind", ["ranking", "difference"])
def test_mean_reduction_weighs_two_ranking_losses(rewards, kind):
  loss, terms = loss_of(rewards, kind=kind)
  assert terms.keys() == {"preference", "golden"}
  preference = ranking_loss(rewards[0], PREFERENCE_SCORES)
  golden = ranking_loss(rewards[1], GOLDEN_SCORES, kind=kind)
  assert terms["preference"] == preference
  assert terms["golden"] == golden
  assert loss == pytest.approx(float(0.1 * golden + 0.8 * preference), rel=1e-6)


def test_more_samples_of_the_same_kind_change_nothing(rewards):
  """Doubling S is no weaker game."""
  twice = jnp.concatenate([rewards[1], rewards[1][:, 1:]], axis=1)
  scores = jnp.concatenate([GOLDEN_SCORES, GOLDEN_SCORES[:, 1:]], axis=1)
  options = {**OPTIONS, "num_samples": 8}
  loss, _ = apo_loss(rewards[0], PREFERENCE_SCORES, twice, scores, **options)
  assert loss == pytest.approx(float(loss_of(rewards)[0]), rel=1e-6)


@pytest.mark.parametrize("kind", ["ranking", "difference"])
@both_reductions
def test_twins_of_golden_responses(kind, reduction):
  """They are left out of margins, and count in the denominator as the paper's code counts them."""
  options = {"kind": kind, "reduction": reduction}
  none = jnp.zeros((1, 2)), jnp.full((1, 2), -1.0)
  golden = jnp.array([[1.5, 0.25, 0.75]]), jnp.array([[1.0, 0.0, 0.0]])
  sums = objectives.APO(**options)(objectives.ScoredRewards(*none, *golden, jnp.array([2.0])))
  # What the paper's code sees: samples whose rewards are the golden response's.
  seen = jnp.array([[1.5, 0.25, 0.75, 1.5, 1.5]]), jnp.array([[1.0, 0.0, 0.0, 0.0, 0.0]])
  reference = objectives.APO(**options)(objectives.ScoredRewards(*none, *seen))
  assert sums["golden"].count == reference["golden"].count == 4
  tie = 2 * math.log(2) if kind == "ranking" else 0.0
  expected = float(reference["golden"].total) - (tie if reduction == "mean" else 0.0)
  assert sums["golden"].total == pytest.approx(expected, rel=1e-6)
  pairs = sums["golden_pairs"]
  assert (pairs.total, pairs.count) == (0, 2)
  assert pairs.metrics == {"golden_margin": pytest.approx(2.0), "golden_accuracy": 2}


def test_untrained_reward_costs_log_two_for_each_term():
  zeros = (jnp.zeros(PREFERENCE_SCORES.shape), jnp.zeros(GOLDEN_SCORES.shape))
  loss, _ = loss_of(zeros)
  assert loss == pytest.approx((0.1 + 0.8) * math.log(2), rel=1e-6)


def test_terms_count_their_pairs(rewards):
  _, counts = sums_of(rewards[0], PREFERENCE_SCORES, rewards[1], GOLDEN_SCORES, **OPTIONS)
  assert counts == {"preference": 5, "golden": 6}
  padding, zeros = jnp.full((2, 2), -1.0), jnp.zeros((2, 2))
  _, counts = sums_of(zeros, padding, zeros, padding, **OPTIONS)
  assert counts == {"preference": 0, "golden": 0}


@both_reductions
def test_micro_batches_over_the_counts_of_the_batch_add_up(rewards, reduction):
  options = {**OPTIONS, "reduction": reduction}
  _, counts = sums_of(rewards[0], PREFERENCE_SCORES, rewards[1], GOLDEN_SCORES, **options)

  def micro_loss(rewards, index):
    # Preference rows and golden rows are split each into two, unevenly in pairs.
    b, c = slice(2 * index, 2 * index + 2), slice(index, index + 1)
    return apo_loss(
      rewards[0][b],
      PREFERENCE_SCORES[b],
      rewards[1][c],
      GOLDEN_SCORES[c],
      **options,
      counts=counts,
    )

  def whole_loss(rewards):
    return loss_of(rewards, reduction=reduction)

  def summed_loss(rewards):
    return jax.tree.map(lambda *parts: sum(parts), micro_loss(rewards, 0), micro_loss(rewards, 1))

  expected = jax.jit(jax.value_and_grad(whole_loss, has_aux=True))(rewards)
  actual = jax.jit(jax.value_and_grad(summed_loss, has_aux=True))(rewards)
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-7), actual, expected
  )


@both_reductions
@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (2, 5)], ids=["no rows", "no shape", "padding"])
def test_without_golden_data_only_preferences_count(rewards, reduction, shape):
  def loss(preference, golden):
    return apo_loss(
      preference,
      PREFERENCE_SCORES,
      golden,
      jnp.full(shape, -1.0),
      **{**OPTIONS, "reduction": reduction},
    )

  (value, terms), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
    rewards[0], jnp.zeros(shape)
  )
  expected = 0.8 * ranking_loss(rewards[0], PREFERENCE_SCORES)
  assert value == pytest.approx(float(expected), rel=1e-6)
  assert terms["golden"] == 0
  assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
  assert np.all(np.asarray(gradients[1]) == 0)


def test_without_preferences_only_golden_data_counts(rewards):
  empty = jnp.zeros((0, 2))
  loss, terms = apo_loss(empty, empty, rewards[1], GOLDEN_SCORES, **OPTIONS)
  assert terms["preference"] == 0
  expected = 0.1 * ranking_loss(rewards[1], GOLDEN_SCORES)
  assert loss == pytest.approx(float(expected), rel=1e-6)


def test_gradient_lifts_golden_above_samples(rewards):
  gradient = jax.grad(lambda rewards: loss_of(rewards)[0])(rewards)[1]
  scores = np.asarray(GOLDEN_SCORES)
  assert np.all(np.asarray(gradient)[scores == 1] < 0)
  assert np.all(np.asarray(gradient)[scores == 0] > 0)
  assert np.all(np.asarray(gradient)[scores < 0] == 0)


@both_reductions
def test_preferences_alone_have_no_golden_term(rewards, reduction):
  loss, terms = apo_loss(
    rewards[0], PREFERENCE_SCORES, None, None, **{**OPTIONS, "reduction": reduction}
  )
  assert terms.keys() == {"preference"}
  assert loss == pytest.approx(0.8 * float(ranking_loss(rewards[0], PREFERENCE_SCORES)), rel=1e-6)
