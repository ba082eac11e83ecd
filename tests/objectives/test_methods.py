"""What the policy losses beside DPO, RRHF and RJS come to in their limits, by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives

REFERENCE = np.array([[-10.0, -20.0, -30.0]], np.float32)
RATIOS = np.array([[1.0, -2.0, 0.5]], np.float32)
REWARDS = np.array([[2.0, 0.0, 1.0]], np.float32)
LENGTHS = np.array([[2, 4, 5]], np.int32)


def responses(ratios=RATIOS, rewards=REWARDS, reference=REFERENCE):
  """One query's responses."""
  ratios, rewards = np.asarray(ratios, np.float32), np.asarray(rewards, np.float32)
  size = ratios.shape[1]
  return objectives.ScoredResponses(
    reference[:, :size] + ratios,
    reference[:, :size],
    LENGTHS[:, :size],
    rewards,
    np.ones(ratios.shape, bool),
  )


def value_and_gradient(loss, given):
  """Returns the mean and its gradient for the log-probabilities."""

  @jax.jit
  def of(given):
    def mean(logprobs):
      return loss(given._replace(logprobs=logprobs)).mean

    return jax.value_and_grad(mean)(given.logprobs)

  return of(given)


def sums(loss, given):
  return jax.jit(loss)(given)


def assert_equal_losses(one, other, given, rtol=1e-5):
  for actual, expected in zip(
    value_and_gradient(one, given), value_and_gradient(other, given), strict=True
  ):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-6)


PAIR = responses(RATIOS[:, :2], REWARDS[:, :2])
DPO = objectives.DPO(beta=0.5)


@pytest.mark.parametrize(
  "loss",
  [
    objectives.SWEPO(beta=0.5, alpha=0.0),
    objectives.SWEPO(beta=0.5, power=0),
    # Two are as far from their mean, so that the size of it says nothing.
    objectives.SWEPO(beta=0.5, alpha=2.0, power=2),
    objectives.InfoNCA(beta=0.5, alpha=0.01),
    objectives.DNO(beta=0.5, label_scale=100.0),
    objectives.DNOPrct(beta=0.5),
  ],
  ids=repr,
)
def test_on_two_responses_it_is_dpo(loss):
  assert_equal_losses(loss, DPO, PAIR)


def test_sharp_labels_make_dno_dpo_on_all_pairs():
  sharp = objectives.DNO(beta=0.5, label_scale=1000.0)
  assert_equal_losses(sharp, objectives.DPO(beta=0.5, pairs="all"), responses())


def test_dno_wants_equals_to_be_equally_likely():
  equal = responses([[0.3, 0.3, 0.3]], [[1.0, 1.0, 1.0]])
  value, gradient = value_and_gradient(objectives.DNO(beta=0.5), equal)
  assert value == pytest.approx(math.log(2), rel=1e-6)
  np.testing.assert_allclose(gradient, 0, atol=1e-7)
  apart, _ = value_and_gradient(objectives.DNO(beta=0.5), responses(RATIOS, [[1.0, 1.0, 1.0]]))
  assert apart > value


def test_large_margin_pairs():
  # Win rates: (0.731 + 0.881) / 2 = 0.806, (0.119 + 0.269) / 2 = 0.194, and 0.5.
  rewards, valid = jnp.asarray(REWARDS), jnp.ones((1, 3), bool)

  def kept(**thresholds):
    found = objectives.DNOPrct(**thresholds).large_margin_pairs(rewards, valid)
    return {(int(i), int(j)) for _, i, j in np.argwhere(np.asarray(found))}

  assert kept() == {(0, 1), (0, 2)}
  assert kept(least_margin=0.31) == {(0, 1)}
  assert kept(least_win_rate=0.49) == {(0, 1), (0, 2), (2, 1)}
  assert kept(least_win_rate=0.9) == {(0, 1), (0, 2)}  # the best whatever its rate
  assert kept(least_margin=0.62) == set()


def test_a_single_better_response_is_chosen_among_all():
  """SWEPO without weights and with one response above the mean: softmax cross-entropy."""
  value, _ = value_and_gradient(
    objectives.SWEPO(beta=0.5, alpha=0.0), responses(RATIOS, [[5.0, 0.0, 1.0]])
  )
  shares = np.exp(0.5 * RATIOS[0])
  assert value == pytest.approx(-math.log(shares[0] / shares.sum()), rel=1e-5)


def test_signed_deviations_weigh_the_worst_down():
  """Of [2, 0, 1] the worst is a standard deviation further down than the middle one."""
  z = math.sqrt(1.5)

  def share(loss):
    return math.exp(-value_and_gradient(loss, responses())[0])

  weights = np.exp(0.5 * RATIOS[0])
  for deviation, factors in (("abs", (z, z, 0)), ("signed", (z, -z, 0))):
    scores = weights * np.exp(2.0 * np.array(factors))
    loss = objectives.SWEPO(beta=0.5, alpha=2.0, deviation=deviation)
    assert share(loss) == pytest.approx(scores[0] / scores.sum(), rel=1e-4)


NDCG = [
  objectives.ApproxNDCG(beta=1.0, alpha=50.0),
  objectives.DiffsortNDCG(beta=1.0, steepness=1e4),
  objectives.NeuralNDCG(beta=1.0, tau=0.01),
]


@pytest.mark.parametrize("loss", NDCG, ids=lambda loss: loss.name)
def test_ndcg_of_scores_far_apart(loss):
  """Gains 1, 0 and sqrt(2) - 1; discounts 1, 1 / log2(3), 1 / 2."""
  middle = math.sqrt(2) - 1
  best = 1 + middle / math.log2(3)
  for ratios, expected in (
    ([[20.0, -20.0, 0.0]], -1.0),
    ([[-20.0, 20.0, 0.0]], -(middle / math.log2(3) + 0.5) / best),
    ([[0.0, -20.0, 20.0]], -(middle + 1 / math.log2(3)) / best),
  ):
    value, _ = value_and_gradient(loss, responses(ratios))
    assert value == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
  "loss",
  [objectives.ApproxNDCG(), objectives.DiffsortNDCG(), objectives.NeuralNDCG()],
  ids=lambda loss: loss.name,
)
def test_ndcg_learns_where_policy_and_reference_are_one(loss):
  """As they are in the first step of a round: the best response is to rise, the worst to fall."""
  _, gradient = value_and_gradient(loss, responses(np.zeros((1, 3))))
  assert gradient[0, 0] < -1e-4 < 1e-4 < gradient[0, 1]


def test_ndcg_takes_rewards_of_any_sign_and_scale():
  loss = objectives.ApproxNDCG()
  other = responses(rewards=-7.0 + 0.01 * REWARDS)
  for actual, expected in zip(
    value_and_gradient(loss, other), value_and_gradient(loss, responses()), strict=True
  ):
    np.testing.assert_allclose(actual, expected, rtol=1e-3)


def test_sppo_is_at_its_minimum_where_log_ratios_are_win_rates():
  # Win rates of REWARDS as above.
  sigmoid = [1 / (1 + math.exp(-x)) for x in (1, 2)]
  wins = sum(sigmoid) / 2
  targets = np.array([[(wins - 0.5) / 0.1, (0.5 - wins) / 0.1, 0.0]])
  value, gradient = value_and_gradient(objectives.SPPO(beta=0.1), responses(targets))
  assert value == pytest.approx(0, abs=1e-8)
  np.testing.assert_allclose(gradient, 0, atol=1e-4)
  value, _ = value_and_gradient(objectives.SPPO(beta=0.1), responses(targets + 0.3))
  assert value == pytest.approx(0.09, rel=1e-3)


def test_kto_at_the_reference_costs_a_half():
  loss = objectives.KTO(desirable_weight=2.0)
  value, gradient = value_and_gradient(loss, responses(np.zeros((1, 3))))
  # The middle reward is the mean: no label.
  assert value == pytest.approx((2.0 * 0.5 + 0.5) / 2, rel=1e-6)
  np.testing.assert_allclose(gradient, [[-0.1 * 2 / 4 / 2, 0.1 / 4 / 2, 0.0]], rtol=1e-5)


def test_kto_labels_by_its_baseline():
  rewards = np.array([[-1.0, -3.0], [5.0, 9.0], [2.0, 2.0]], np.float32)
  given = objectives.ScoredResponses(
    *(np.zeros((3, 2), np.float32),) * 2,
    np.ones((3, 2), np.int32),
    rewards,
    np.array([[True, True], [True, True], [True, False]]),
  )
  found = {
    baseline: sums(objectives.KTO(baseline=baseline), given)
    for baseline in ("query", "batch", "zero")
  }
  # desirable, labelled: the batch's mean is 2.4.
  expected = {"query": (2, 4), "batch": (2, 5), "zero": (3, 5)}
  for baseline, one in found.items():
    assert (int(one.metrics["desirable"]), int(one.count)) == expected[baseline]


def test_a_hinge_leaves_wide_margins_alone():
  wide = responses([[5.0, -5.0, 0.0]])
  value, gradient = value_and_gradient(objectives.Hinge(beta=0.2), wide)
  assert value == 0 and np.all(np.asarray(gradient) == 0)
  value, _ = value_and_gradient(objectives.Hinge(beta=0.05), wide)
  assert value == pytest.approx(1 - 0.05 * 10)


def test_offline_clip_is_a_policy_gradient_at_the_reference():
  value, gradient = value_and_gradient(objectives.OfflineClip(), responses(np.zeros((1, 3))))
  assert value == pytest.approx(0, abs=1e-7)
  np.testing.assert_allclose(gradient, -np.array([[1.0, -1.0, 0.0]]) / LENGTHS / 3, rtol=1e-5)


def test_offline_clip_leaves_alone_what_has_moved_far_enough():
  """Up for the better, down for the worse; the other way is open."""
  far = LENGTHS * np.array([[0.5, -0.5, 0.0]])
  loss = objectives.OfflineClip(kl_coefficient=0.0)
  _, gradient = value_and_gradient(loss, responses(far))
  np.testing.assert_allclose(gradient, 0, atol=1e-7)
  _, gradient = value_and_gradient(loss, responses(-far))
  assert gradient[0, 0] < 0 < gradient[0, 1]
  assert int(sums(loss, responses(far)).metrics["clipped"]) == 2
  assert int(sums(loss, responses(-far)).metrics["clipped"]) == 0


def test_the_price_of_moving_is_a_constant_in_the_gradient():
  """d = log(1.1) a token: the gradient is that of the ratio alone, (A - 0.2 d) * ratio / |y|."""
  drift = math.log(1.1)
  _, gradient = value_and_gradient(
    objectives.OfflineClip(), responses(LENGTHS * np.array([[drift, 0.0, 0.0]]))
  )
  expected = -(1.0 - 0.2 * drift) * 1.1 / LENGTHS[0, 0] / 3
  assert gradient[0, 0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", [objectives.SimPO(), objectives.ORPO()], ids=lambda one: one.name)
def test_what_needs_no_reference_reads_none(loss):
  assert np.isfinite(sums(loss, responses()._replace(reference_logprobs=None)).mean)


def test_orpo_imitates_the_end_that_was_never_drawn():
  """Its imitation reads `imitated_logprobs`, its odds ratio what was drawn."""
  given, loss = responses(), objectives.ORPO()
  ended = given._replace(imitated_logprobs=given.logprobs - 3, imitated_lengths=LENGTHS + 1)
  plain, found = sums(loss, given), sums(loss, ended)
  assert found.metrics["odds_loss"] == plain.metrics["odds_loss"]
  assert found.metrics["sft_loss"] == pytest.approx((9 + 3) / 3)
  assert plain.metrics["sft_loss"] == pytest.approx(9 / 2)


def test_hard_labels_and_pairs_read_two_responses():
  for loss in (objectives.SPPO(labels="hard"), objectives.IPO(), objectives.ORPO()):
    assert loss.most_read(5) == 2
  for loss in (objectives.SPPO(), objectives.IPO(pairs="all"), objectives.NCA()):
    assert loss.most_read(5) == 5
