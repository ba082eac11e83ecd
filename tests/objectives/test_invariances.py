"""What every loss of this package promises, tested on every one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from .helpers import LOSSES, POLICY_LOSSES, random_batch, value_and_gradient

IMITATING = ("likelihood", "rjs", "rjs_sum", "rrhf")
every_loss = pytest.mark.parametrize("name", LOSSES)


def assert_same(actual, expected, **tolerances):
  tolerances = {"rtol": 1e-5, "atol": 1e-6, **tolerances}
  jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, **tolerances), actual, expected)


@every_loss
def test_gradient_agrees_with_finite_differences(name):
  loss = LOSSES[name]
  batch = random_batch()

  def of_values(values):
    return loss({**batch, "values": values}).mean

  check_grads(
    jax.jit(of_values), (batch["values"],), order=1, modes=["rev"], eps=1e-2, atol=2e-3, rtol=2e-3
  )


@every_loss
@pytest.mark.parametrize("garbage", [1e9, -1e9, np.nan])
def test_masked_positions_change_neither_value_nor_gradient(name, garbage):
  loss = LOSSES[name]
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
  loss = LOSSES[name]
  batch = random_batch()
  padded = {field: jnp.pad(array, ((0, 2), (0, 3))) for field, array in batch.items()}
  value, gradient = value_and_gradient(loss, batch)
  padded_value, padded_gradient = value_and_gradient(loss, padded)
  assert_same(padded_value, value)
  assert_same(padded_gradient, jnp.pad(gradient, ((0, 2), (0, 3))))


@every_loss
def test_order_of_queries_and_responses_is_irrelevant(name):
  loss = LOSSES[name]
  batch = random_batch()
  rng = np.random.default_rng(1)
  queries = rng.permutation(batch["values"].shape[0])
  responses = rng.permutation(batch["values"].shape[1])
  permuted = {field: array[queries][:, responses] for field, array in batch.items()}
  value, gradient = value_and_gradient(loss, batch)
  assert_same(value_and_gradient(loss, permuted), (value, gradient[queries][:, responses]))


@every_loss
def test_duplicating_the_batch_leaves_the_mean(name):
  loss = LOSSES[name]
  batch = random_batch()
  doubled = {field: jnp.concatenate([array, array]) for field, array in batch.items()}
  assert_same(value_and_gradient(loss, doubled)[0], value_and_gradient(loss, batch)[0])


@every_loss
def test_micro_batches_over_the_whole_count_add_up(name):
  loss = LOSSES[name]
  batch = random_batch()
  count = loss(batch).count
  # Unequal in pairs and in queries, so that a mean of means would be off.
  slices = [
    {field: array[start : start + 2] for field, array in batch.items()} for start in (0, 2, 4)
  ]
  parts = [value_and_gradient(loss, part, count) for part in slices]
  value, gradient = value_and_gradient(loss, batch)
  assert_same(sum(part[0] for part in parts), value)
  assert_same(jnp.concatenate([part[1] for part in parts]), gradient)
  sums = [loss(part) for part in slices]
  assert_same(sum(part.count for part in sums), count)
  for metric, total in loss(batch).metrics.items():
    assert_same(sum(part.metrics[metric] for part in sums), total)


@every_loss
def test_the_count_does_not_depend_on_the_model(name):
  """A step counts a whole batch before the model has read it."""
  loss = LOSSES[name]
  batch = random_batch()
  assert loss({**batch, "values": jnp.zeros_like(batch["values"])}).count == loss(batch).count
  gradient = jax.grad(lambda values: loss({**batch, "values": values}).count)(batch["values"])
  assert np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_what_a_policy_loss_does_not_read_changes_nothing(name):
  """Nor does it where the rest is left out: those samples are not trained on."""
  batch = random_batch()
  read = POLICY_LOSSES[name].reads(batch["rewards"], batch["valid"])
  assert not np.any(np.asarray(read & ~batch["valid"]))
  value, gradient = value_and_gradient(LOSSES[name], batch)
  assert np.all(np.asarray(gradient)[~np.asarray(read)] == 0)
  assert_same(value_and_gradient(LOSSES[name], {**batch, "valid": read}), (value, gradient))


@every_loss
def test_nothing_to_compare_gives_zero_with_zero_gradient(name):
  loss = LOSSES[name]
  batch = random_batch()
  batch["valid"] = jnp.zeros_like(batch["valid"])
  value, gradient = value_and_gradient(loss, batch)
  assert value == 0
  assert np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in IMITATING])
def test_equal_rewards_make_no_pair(name):
  loss = LOSSES[name]
  batch = random_batch()
  batch["rewards"] = jnp.full_like(batch["rewards"], 0.5)
  value, gradient = value_and_gradient(loss, batch)
  assert value == 0
  assert np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in IMITATING])
def test_a_constant_for_each_query_cancels(name):
  # Rewards, and implicit rewards, mean something only within a query.
  loss = LOSSES[name]
  batch = random_batch()
  shifts = jnp.arange(batch["values"].shape[0], dtype=jnp.float32)[:, None]
  shifted = {**batch, "values": batch["values"] + shifts}
  expected = value_and_gradient(loss, batch)
  assert_same(value_and_gradient(loss, shifted), expected, atol=1e-5)


@every_loss
def test_half_precision_is_upcast_before_any_arithmetic(name):
  loss = LOSSES[name]
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
  loss = LOSSES[name]
  batch = random_batch()
  batch["values"] = batch["values"] * scale
  value, gradient = value_and_gradient(loss, batch)
  assert np.isfinite(value)
  assert np.all(np.isfinite(gradient))
