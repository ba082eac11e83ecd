"""Relative PO against its authors' code, and where it is DPO."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.objectives import DPO, RelativePO, ScoredResponses

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "published_losses.json"
CASES = json.loads(GOLDEN.read_text())["relative_po"]


def responses(best, worst, reference_best, reference_worst, embeddings):
  """The better response [B] before the worse [B]."""
  logprobs = jnp.stack([best, worst], axis=1)
  return ScoredResponses(
    logprobs,
    jnp.stack([reference_best, reference_worst], axis=1),
    jnp.ones(logprobs.shape, jnp.int32),
    jnp.broadcast_to(jnp.array([1.0, 0.0]), logprobs.shape),
    jnp.ones(logprobs.shape, bool),
    query_embeddings=embeddings,
  )


def random_responses(queries=5):
  rng = np.random.default_rng(0)
  arrays = [jnp.asarray(rng.normal(scale=3.0, size=queries), jnp.float32) for _ in range(4)]
  return responses(*arrays, jnp.asarray(rng.normal(size=(queries, 4)), jnp.float32))


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["options"]))
def test_its_authors_code(case):
  arrays = {name: jnp.asarray(values) for name, values in case["arrays"].items()}
  embeddings = jnp.asarray(case["embeddings"])

  def loss(best, worst):
    references = arrays["reference_best"], arrays["reference_worst"]
    return RelativePO(**case["options"])(responses(best, worst, *references, embeddings)).mean

  value, gradients = jax.value_and_grad(loss, (0, 1))(arrays["best"], arrays["worst"])
  assert value == pytest.approx(case["loss"], rel=1e-5)
  for gradient, name in zip(gradients, ("best", "worst"), strict=True):
    np.testing.assert_allclose(gradient, case["gradients"][name], rtol=1e-4, atol=1e-7)


def test_of_one_query_it_is_dpo():
  one = jax.tree.map(lambda array: array[:1], random_responses())
  assert RelativePO()(one).mean == pytest.approx(float(DPO()(one).mean), rel=1e-6)


@pytest.mark.parametrize(
  ("temperature", "expected"), [(1e-4, np.eye(5)), (1e6, np.ones((5, 5)) / 5)]
)
def test_temperature_leads_from_own_pairs_to_all_alike(temperature, expected):
  given = random_responses()
  found = RelativePO(temperature=temperature)
  weights = found._weights(given.query_embeddings, jnp.ones(5, bool))
  np.testing.assert_allclose(weights, expected, atol=1e-5)
  assert found(given).metrics["own_weight"] / 25 == pytest.approx(
    np.diag(expected).mean(), abs=1e-5
  )


def test_weights_may_be_as_large_as_the_batch():
  given = random_responses()
  alike = RelativePO(temperature=1e6, weights="times_queries")
  log_ratios = given.logprobs - given.reference_logprobs
  margins = 0.1 * (log_ratios[:, :1] - log_ratios[None, :, 1])
  assert alike(given).mean == pytest.approx(float(jnp.mean(-jax.nn.log_sigmoid(margins))), rel=1e-5)


def test_queries_without_a_pair_do_not_count():
  """The second query has one response, the fourth two of one reward."""
  given = random_responses()
  spoiled = given._replace(
    valid=given.valid.at[1, 1].set(False), rewards=given.rewards.at[3].set(0.5)
  )
  left = jax.tree.map(lambda array: array[jnp.array([0, 2, 4])], given)
  ours, theirs = RelativePO()(spoiled), RelativePO()(left)
  assert ours.count == 9
  assert ours.mean == pytest.approx(float(theirs.mean), rel=1e-6)


def test_no_gradient_reaches_the_embeddings():
  given = random_responses()

  def loss(embeddings):
    return RelativePO()(given._replace(query_embeddings=embeddings)).mean

  np.testing.assert_array_equal(jax.grad(loss)(given.query_embeddings), 0)
