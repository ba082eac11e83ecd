"""SPIN against its authors' code, and where it is another loss or nothing."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.objectives import DPO, SPIN, ScoredResponses

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "published_losses.json"
CASES = json.loads(GOLDEN.read_text())["spin"]
IS_GOLDEN = jnp.array([[True, False]])


def responses(golden, samples, reference_golden, reference_samples, valid=None):
  """A golden response [B] before samples [B, S]."""
  logprobs = jnp.concatenate([golden[:, None], samples], axis=1)
  valid = jnp.ones(logprobs.shape, bool) if valid is None else valid
  return ScoredResponses(
    logprobs,
    jnp.concatenate([reference_golden[:, None], reference_samples], axis=1),
    jnp.ones(logprobs.shape, jnp.int32),
    jnp.zeros(logprobs.shape),
    valid,
    golden=jnp.arange(logprobs.shape[1])[None] == jnp.zeros((len(logprobs), 1)),
  )


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["options"]))
def test_its_authors_code(case):
  arrays = {name: jnp.asarray(values) for name, values in case["arrays"].items()}

  def loss(golden, sample):
    references = arrays["reference_golden"], arrays["reference_sample"][:, None]
    return SPIN(**case["options"])(responses(golden, sample[:, None], *references)).mean

  value, gradients = jax.value_and_grad(loss, (0, 1))(arrays["golden"], arrays["sample"])
  assert value == pytest.approx(case["loss"], rel=1e-5)
  for gradient, name in zip(gradients, ("golden", "sample"), strict=True):
    np.testing.assert_allclose(gradient, case["gradients"][name], rtol=1e-4, atol=1e-7)


def test_at_the_opponent_it_costs_log_two_and_has_a_gradient():
  golden, samples = jnp.array([-3.0]), jnp.array([[-5.0, -7.0]])

  def loss(golden):
    return SPIN(beta=0.5)(responses(golden, samples, jnp.array([-3.0]), samples)).mean

  value, gradient = jax.value_and_grad(loss)(golden)
  assert value == pytest.approx(math.log(2), rel=1e-6)
  assert gradient == pytest.approx(-0.25)


def test_with_one_sample_it_is_dpo():
  rng = np.random.default_rng(0)
  arrays = [jnp.asarray(rng.normal(size=shape)) for shape in ((4,), (4, 1), (4,), (4, 1))]
  given = responses(*arrays)
  preferred = given._replace(rewards=given.golden.astype(jnp.float32))
  assert SPIN(beta=0.3)(given).mean == pytest.approx(float(DPO(beta=0.3)(preferred).mean))


def test_it_is_a_mean_over_the_samples_that_are_there():
  """The second query has one sample, the third no golden response."""
  rng = np.random.default_rng(1)
  golden, reference_golden = (jnp.asarray(rng.normal(size=3)) for _ in range(2))
  samples, reference = (jnp.asarray(rng.normal(size=(3, 2))) for _ in range(2))
  valid = jnp.array([[True, True, True], [True, False, True], [False, True, True]])
  sums = SPIN(beta=0.7)(responses(golden, samples, reference_golden, reference, valid))
  margins = [
    0.7 * ((golden[b] - reference_golden[b]) - (samples[b, s] - reference[b, s]))
    for b, s in ((0, 0), (0, 1), (1, 1))
  ]
  assert sums.count == 3
  assert sums.mean == pytest.approx(np.mean([math.log1p(math.exp(-m)) for m in margins]), rel=1e-5)
  assert sums.metrics["margin"] == pytest.approx(float(sum(margins)), rel=1e-5)
