import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax import objectives

best_response = jax.jit(objectives.best_response)


@jax.jit
def rjs(logprobs, rewards, valid):
  """Returns the sums of the loss over queries; lengths and reference play no part."""
  lengths = jnp.ones(logprobs.shape, jnp.int32)
  responses = objectives.ScoredResponses(logprobs, None, lengths, rewards, valid)
  return objectives.RejectionSampling("sum")(responses)


def rjs_loss(*arrays):
  return rjs(*arrays).mean


LOGPROBS = jnp.array([[-1.0, -2.0, -4.0], [-8.0, -16.0, -32.0], [-64.0, -128.0, -256.0]])
REWARDS = jnp.array([[0.0, 3.0, 3.0], [5.0, 1.0, 9.0], [1.0, 2.0, 3.0]])
VALID = jnp.array([[True, True, True], [True, True, False], [False, False, False]])


def test_best_is_valid_and_first_on_ties():
  assert best_response(REWARDS, VALID).tolist() == [1, 0, 0]
  assert best_response(jnp.array([[-5.0, -7.0]]), jnp.array([[False, True]])).tolist() == [1]


def test_loss_is_the_mean_over_queries_with_a_response():
  assert rjs(LOGPROBS, REWARDS, VALID).count == 2
  assert rjs_loss(LOGPROBS, REWARDS, VALID) == pytest.approx((2 + 8) / 2)


def test_by_default_it_is_the_mean_over_tokens():
  """As every trainer of language models has it; an end that was not drawn is a token of it."""
  lengths = jnp.array([[1, 3, 1], [5, 1, 1], [1, 1, 1]])
  responses = objectives.ScoredResponses(LOGPROBS, None, lengths, REWARDS, VALID)
  assert objectives.RejectionSampling()(responses).mean == pytest.approx((2 + 8) / (3 + 5))
  ended = responses._replace(imitated_logprobs=LOGPROBS - 0.5, imitated_lengths=lengths + 1)
  assert objectives.RejectionSampling()(ended).mean == pytest.approx((2.5 + 8.5) / (4 + 6))
  assert objectives.RejectionSampling("sum")(ended).mean == pytest.approx((2.5 + 8.5) / 2)


def test_gradient_reaches_the_best_responses_alone():
  gradient = jax.grad(rjs_loss)(LOGPROBS, REWARDS, VALID)
  expected = np.zeros((3, 3))
  expected[0, 1] = expected[1, 0] = -0.5
  np.testing.assert_array_equal(gradient, expected)
  assert np.all(np.asarray(jax.grad(rjs_loss, argnums=1)(LOGPROBS, REWARDS, VALID)) == 0)


def test_one_valid_response_is_imitated():
  assert rjs_loss(jnp.array([[-3.0]]), jnp.array([[0.0]]), jnp.array([[True]])) == 3


def test_it_reads_the_best_alone():
  read = objectives.RejectionSampling().reads(REWARDS, VALID)
  assert read.tolist() == [[False, True, False], [True, False, False], [False] * 3]


def test_maximum_likelihood_imitates_every_response():
  lengths = jnp.ones(LOGPROBS.shape, jnp.int32)
  responses = objectives.ScoredResponses(LOGPROBS, None, lengths, REWARDS, VALID)
  sums = objectives.MaximumLikelihood("sum")(responses)
  assert (sums.total, sums.count, sums.metrics) == (1 + 2 + 4 + 8 + 16, 5, {})
  longer = responses._replace(lengths=3 * lengths)
  assert objectives.MaximumLikelihood("sum")(longer).count == 5
  assert objectives.MaximumLikelihood()(longer).count == 15
