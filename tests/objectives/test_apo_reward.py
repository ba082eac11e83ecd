import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives

apo_reward_loss = jax.jit(
  objectives.apo_reward_loss,
  static_argnames=(
    "num_samples",
    "apo_coefficient",
    "preference_coefficient",
    "kind",
    "reduction",
  ),
)
apo_reward_normalizers = jax.jit(objectives.apo_reward_normalizers, static_argnames="reduction")
ranking_loss = jax.jit(objectives.ranking_loss, static_argnames="kind")

PREFERENCE_SCORES = jnp.array(
  [[1.0, 0.0, -1.0], [2.0, 1.0, 0.0], [1.0, 1.0, -1.0], [0.0, 1.0, -1.0]]
)
APO_SCORES = jnp.array([[1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, -1.0, -1.0]])
OPTIONS = {
  "num_samples": 4,
  "apo_coefficient": 0.1,
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
    for scores in (PREFERENCE_SCORES, APO_SCORES)
  )


def loss_of(rewards, **options):
  preference, apo = rewards
  return apo_reward_loss(preference, PREFERENCE_SCORES, apo, APO_SCORES, **{**OPTIONS, **options})


def reference_total(rewards, kind):
  """Returns the loss as one loop over all rows, a coefficient a row, and one pair count."""
  rows = [(r, s, 0.8, "ranking") for r, s in zip(rewards[0], PREFERENCE_SCORES, strict=True)]
  rows += [(r, s, 0.1 / 4, kind) for r, s in zip(rewards[1], APO_SCORES, strict=True)]
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
  assert terms.keys() == {"preference_loss", "apo_loss"}
  preference = ranking_loss(rewards[0], PREFERENCE_SCORES)
  apo = ranking_loss(rewards[1], APO_SCORES, kind=kind)
  assert terms["preference_loss"] == preference
  assert terms["apo_loss"] == apo
  assert loss == pytest.approx(float(0.1 * apo / 4 + 0.8 * preference), rel=1e-6)


def test_untrained_reward_costs_log_two_for_each_term():
  zeros = (jnp.zeros(PREFERENCE_SCORES.shape), jnp.zeros(APO_SCORES.shape))
  loss, _ = loss_of(zeros)
  assert loss == pytest.approx((0.1 / 4 + 0.8) * math.log(2), rel=1e-6)


def test_normalizers_count_pairs():
  assert apo_reward_normalizers(PREFERENCE_SCORES, APO_SCORES, "mean") == (5, 6)
  assert apo_reward_normalizers(PREFERENCE_SCORES, APO_SCORES, "reference") == (11, 11)
  padding = jnp.full((2, 2), -1.0)
  assert apo_reward_normalizers(padding, padding, "mean") == (1, 1)
  assert apo_reward_normalizers(padding, padding, "reference") == (1, 1)


@both_reductions
def test_micro_batches_with_the_batch_normalizers_add_up(rewards, reduction):
  normalizers = apo_reward_normalizers(PREFERENCE_SCORES, APO_SCORES, reduction)

  def micro_loss(rewards, index):
    # Preference rows and golden rows are split each into two, unevenly in pairs.
    b, c = slice(2 * index, 2 * index + 2), slice(index, index + 1)
    return apo_reward_loss(
      rewards[0][b],
      PREFERENCE_SCORES[b],
      rewards[1][c],
      APO_SCORES[c],
      **{**OPTIONS, "reduction": reduction},
      normalizers=normalizers,
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
  def loss(preference, apo):
    return apo_reward_loss(
      preference,
      PREFERENCE_SCORES,
      apo,
      jnp.full(shape, -1.0),
      **{**OPTIONS, "reduction": reduction},
    )

  (value, terms), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
    rewards[0], jnp.zeros(shape)
  )
  expected = 0.8 * ranking_loss(rewards[0], PREFERENCE_SCORES)
  assert value == pytest.approx(float(expected), rel=1e-6)
  assert terms["apo_loss"] == 0
  assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
  assert np.all(np.asarray(gradients[1]) == 0)


def test_without_preferences_only_golden_data_counts(rewards):
  empty = jnp.zeros((0, 2))
  loss, terms = apo_reward_loss(empty, empty, rewards[1], APO_SCORES, **OPTIONS)
  assert terms["preference_loss"] == 0
  expected = 0.1 / 4 * ranking_loss(rewards[1], APO_SCORES)
  assert loss == pytest.approx(float(expected), rel=1e-6)


def test_gradient_lifts_golden_above_samples(rewards):
  gradient = jax.grad(lambda rewards: loss_of(rewards)[0])(rewards)[1]
  scores = np.asarray(APO_SCORES)
  assert np.all(np.asarray(gradient)[scores == 1] < 0)
  assert np.all(np.asarray(gradient)[scores == 0] > 0)
  assert np.all(np.asarray(gradient)[scores < 0] == 0)


def test_unknown_kind_or_reduction_is_refused(rewards):
  with pytest.raises(ValueError, match="kind is 'hinge'"):
    loss_of(rewards, kind="hinge")
  with pytest.raises(ValueError, match="reduction is 'sum'"):
    loss_of(rewards, reduction="sum")
