import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives


@functools.partial(jax.jit, static_argnames=("sft_coefficient", "over_tokens"))
def rrhf_loss(logprobs, lengths, rewards, valid, *, sft_coefficient, over_tokens="sum"):
  """Returns the mean loss and its terms, the ranking of weight 1."""
  responses = objectives.ScoredResponses(logprobs, None, lengths, rewards, valid)
  loss = objectives.RRHF(1.0, sft_coefficient, over_tokens)
  sums = loss(responses)
  return sums.mean, {name: total / sums.count for name, total in sums.metrics.items()}


# Normalised by length: -1, -2, -3. Rewards rank the responses 1 > 2 > 0.
LOGPROBS = jnp.array([[-2.0, -8.0, -9.0]])
LENGTHS = jnp.array([[2, 4, 3]])
REWARDS = jnp.array([[0.0, 2.0, 1.0]])
VALID = jnp.ones((1, 3), bool)


def test_terms_by_hand():
  loss, terms = rrhf_loss(LOGPROBS, LENGTHS, REWARDS, VALID, sft_coefficient=0.25)
  # Response 0 is the worst but likelier than 1 by 1 and than 2 by 2; 2 is less likely than 1.
  assert terms.keys() == {"rank_loss", "sft_loss"}
  assert terms["rank_loss"] == pytest.approx(3.0)
  assert terms["sft_loss"] == pytest.approx(8.0)
  assert loss == pytest.approx(3.0 + 0.25 * 8.0)


def test_gradient_by_hand():
  def loss(logprobs):
    return rrhf_loss(logprobs, LENGTHS, REWARDS, VALID, sft_coefficient=0.25)[0]

  # Two active pairs push response 0 down, one each pulls 1 and 2 up, all divided by length.
  expected = [[2 / 2, -1 / 4 - 0.25, -1 / 3]]
  np.testing.assert_allclose(jax.grad(loss)(LOGPROBS), expected, rtol=1e-6)


def test_agreeing_order_costs_only_the_imitation():
  rewards = jnp.array([[2.0, 1.0, 0.0]])
  loss, terms = rrhf_loss(LOGPROBS, LENGTHS, rewards, VALID, sft_coefficient=0.5)
  assert terms["rank_loss"] == 0
  assert loss == pytest.approx(0.5 * 2.0)


def test_rank_term_is_a_sum_over_pairs_and_a_mean_over_queries():
  twice = [jnp.concatenate([array, array]) for array in (LOGPROBS, LENGTHS, REWARDS)]
  valid = jnp.array([[True, True, True], [True, False, False]])
  _, terms = rrhf_loss(*twice, valid, sft_coefficient=1.0)
  assert terms["rank_loss"] == pytest.approx(3.0 / 2)
  assert terms["sft_loss"] == pytest.approx((8.0 + 2.0) / 2)
  responses = objectives.ScoredResponses(twice[0], None, twice[1], twice[2], valid)
  assert terms["sft_loss"] == objectives.RejectionSampling("sum")(responses).mean


def test_the_defaults_are_those_of_its_authors_code():
  """100 times the ranking, and the mean over the best response's tokens."""
  responses = objectives.ScoredResponses(LOGPROBS, None, LENGTHS, REWARDS, VALID)
  assert objectives.RRHF()(responses).mean == pytest.approx(100 * 3.0 + 8.0 / 4)
  loss, _ = rrhf_loss(LOGPROBS, LENGTHS, REWARDS, VALID, sft_coefficient=0.5, over_tokens="mean")
  assert loss == pytest.approx(3.0 + 0.5 * 8.0 / 4)


def test_an_end_that_was_not_drawn_is_imitated_and_not_ranked():
  responses = objectives.ScoredResponses(LOGPROBS, None, LENGTHS, REWARDS, VALID)
  ended = responses._replace(imitated_logprobs=LOGPROBS - 7.0, imitated_lengths=LENGTHS + 1)
  sums = objectives.RRHF()(ended)
  assert sums.metrics["rank_loss"] == objectives.RRHF()(responses).metrics["rank_loss"]
  assert sums.metrics["sft_loss"] == pytest.approx((8.0 + 7.0) / 5)


def test_padding_of_length_zero_is_harmless():
  lengths = jnp.array([[2, 0, 3]])
  valid = jnp.array([[True, False, True]])

  def loss(logprobs):
    return rrhf_loss(logprobs, lengths, REWARDS, valid, sft_coefficient=1.0)[0]

  value, gradient = jax.value_and_grad(loss)(jnp.array([[-2.0, 0.0, -9.0]]))
  assert value == pytest.approx(2.0 + 9.0)
  np.testing.assert_allclose(gradient, [[1 / 2, 0.0, -1 / 3 - 1]], rtol=1e-6)


def test_an_empty_response_counted_as_valid_stays_finite():
  def loss(logprobs):
    lengths = jnp.array([[2, 0, 3]])
    return rrhf_loss(logprobs, lengths, REWARDS, VALID, sft_coefficient=1.0)[0]

  value, gradient = jax.value_and_grad(loss)(jnp.array([[-2.0, 0.0, -9.0]]))
  assert np.isfinite(value)
  assert np.all(np.isfinite(gradient))
