"""What every loss of this package promises, tested on every one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from .helpers import LOSSES, random_batch, value_and_gradient

every_loss = pytest.mark.parametrize("name", LOSSES)


def assert_same(actual, expected, **tolerances):
  tolerances = {"rtol": 1e-5, "atol": 1e-6, **tolerances}
  jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, **tolerances), actual, expected)


@every_loss
def test_gradient_agrees_with_finite_differences(name):
  loss, _ = LOSSES[name]
  batch = random_batch()

  def of_values(values):
    return loss({**batch, "values": values})

  check_grads(
    jax.jit(of_values), (batch["values"],), order=1, modes=["rev"], eps=1e-2, atol=2e-3, rtol=2e-3
  )


@every_loss
@pytest.mark.parametrize("garbage", [1e9, -1e9, np.nan])
def test_masked_positions_change_neither_value_nor_gradient(name, garbage):
  loss, _ = LOSSES[name]
  batch = random_batch()
  spoiled = dict(batch)
  for field in ("values", "reference", "rewards"):
    spoiled[field] = jnp.where(batch["valid"], batch[field], garbage)
  spoiled["lengths"] = jnp.where(batch["valid"], batch["lengths"], 0)
  expected = value_and_gradient(loss, batch)
  actual = value_and_gradient(loss, spoiled)
  assert_same(actual, expected, rtol=0, atol=0)
  assert np.all(np.asarray(actual[1])[~np.asarray(batch["valid"])] == 0)


@every_loss
def test_more_padding_changes_nothing(name):
  loss, _ = LOSSES[name]
  batch = random_batch()
  padded = {field: jnp.pad(array, ((0, 2), (0, 3))) for field, array in batch.items()}
  value, gradient = value_and_gradient(loss, batch)
  padded_value, padded_gradient = value_and_gradient(loss, padded)
  assert_same(padded_value, value)
  assert_same(padded_gradient, jnp.pad(gradient, ((0, 2), (0, 3))))


@every_loss
def test_order_of_queries_and_responses_is_irrelevant(name):
  loss, _ = LOSSES[name]
  batch = random_batch()
  rng = np.random.default_rng(1)
  queries = rng.permutation(batch["values"].shape[0])
  responses = rng.permutation(batch["values"].shape[1])
  permuted = {field: array[queries][:, responses] for field, array in batch.items()}
  value, gradient = value_and_gradient(loss, batch)
  assert_same(value_and_gradient(loss, permuted), (value, gradient[queries][:, responses]))


@every_loss
def test_duplicating_the_batch_leaves_the_mean(name):
  loss, _ = LOSSES[name]
  batch = random_batch()
  doubled = {field: jnp.concatenate([array, array]) for field, array in batch.items()}
  assert_same(value_and_gradient(loss, doubled)[0], value_and_gradient(loss, batch)[0])


@every_loss
def test_micro_batches_with_a_shared_normalizer_add_up(name):
  loss, count = LOSSES[name]
  batch = random_batch()
  normalizer = count(batch)
  # Unequal in pairs and in queries, so that a mean of means would be off.
  slices = [
    {field: array[start : start + 2] for field, array in batch.items()} for start in (0, 2, 4)
  ]
  parts = [value_and_gradient(loss, part, normalizer) for part in slices]
  value, gradient = value_and_gradient(loss, batch)
  assert_same(sum(part[0] for part in parts), value)
  assert_same(jnp.concatenate([part[1] for part in parts]), gradient)


@every_loss
def test_normalizer_divides_the_sum(name):
  loss, count = LOSSES[name]
  batch = random_batch()
  expected = jax.tree.map(lambda mean: mean * count(batch) / 7, value_and_gradient(loss, batch))
  assert_same(value_and_gradient(loss, batch, jnp.asarray(7.0)), expected)
  assert_same(loss(batch, 7.0), expected[0])


@every_loss
def test_nothing_to_compare_gives_zero_with_zero_gradient(name):
  loss, _ = LOSSES[name]
  batch = random_batch()
  batch["valid"] = jnp.zeros_like(batch["valid"])
  value, gradient = value_and_gradient(loss, batch)
  assert value == 0
  assert np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("rjs", "rrhf")])
def test_equal_rewards_make_no_pair(name):
  loss, _ = LOSSES[name]
  batch = random_batch()
  batch["rewards"] = jnp.full_like(batch["rewards"], 0.5)
  value, gradient = value_and_gradient(loss, batch)
  assert value == 0
  assert np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("rjs", "rrhf")])
def test_a_constant_for_each_query_cancels(name):
  # Rewards, and implicit rewards, mean something only within a query.
  loss, _ = LOSSES[name]
  batch = random_batch()
  shifts = jnp.arange(batch["values"].shape[0], dtype=jnp.float32)[:, None]
  shifted = {**batch, "values": batch["values"] + shifts}
  expected = value_and_gradient(loss, batch)
  assert_same(value_and_gradient(loss, shifted), expected, atol=1e-5)


@every_loss
def test_half_precision_is_upcast_before_any_arithmetic(name):
  loss, _ = LOSSES[name]
  batch = random_batch()
  half = {
    field: array.astype(jnp.bfloat16) if array.dtype == jnp.float32 else array
    for field, array in batch.items()
  }
  rounded = {
    field: array.astype(jnp.float32) if array.dtype == jnp.bfloat16 else array
    for field, array in half.items()
  }
  value, gradient = value_and_gradient(loss, half)
  assert value.dtype == jnp.float32
  assert gradient.dtype == jnp.bfloat16
  assert value == value_and_gradient(loss, rounded)[0]


@every_loss
@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_extreme_values_stay_finite(name, scale):
  loss, _ = LOSSES[name]
  batch = random_batch()
  batch["values"] = batch["values"] * scale
  value, gradient = value_and_gradient(loss, batch)
  assert np.isfinite(value)
  assert np.all(np.isfinite(gradient))
