"""What every loss of this package promises, tested on every one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.objectives import PolicyLoss

from .helpers import LOSSES, POLICY_LOSSES, outcomes, random_batch

# Equal rewards leave these nothing to learn from; the others imitate, or have soft labels.
NEED_A_PREFERENCE = (
  *("ranking", "difference", "dpo_best_worst", "dpo_best_rest", "dpo_all", "ipo_mean", "ipo_sum"),
  *("hinge", "simpo", "orpo", "kto_query", "kto_batch", "sppo_hard", "dno_prct", "swepo_abs"),
  *("swepo_signed", "ndcg_approx", "ndcg_diffsort", "ndcg_neuralsort", "sequential_po"),
  "relative_po",
)
# A number added to all log-probabilities of a query cancels in these; the others regress the
# log-ratios themselves, or divide by lengths.
READ_DIFFERENCES = (
  *("ranking", "difference", "dpo_best_worst", "dpo_best_rest", "dpo_all", "ipo_sum", "hinge"),
  *("infonca", "dno", "dno_prct", "swepo_abs", "swepo_signed", "ndcg_approx", "ndcg_diffsort"),
  *("ndcg_neuralsort", "sequential_po"),
)
# A part of these is a constant in the gradient; the golden file has that gradient.
PARTLY_CONSTANT = ("kto_query", "kto_batch", "kto_zero", "offline_clip", "offline_clip_normalised")
WHOLE_BATCH = [name for name, loss in POLICY_LOSSES.items() if loss.whole_batch]

every_loss = pytest.mark.parametrize("name", LOSSES)
every_policy_loss = pytest.mark.parametrize("name", POLICY_LOSSES)


def assert_same(actual, expected, **tolerances):
  tolerances = {"rtol": 1e-5, "atol": 1e-6, **tolerances}
  jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, **tolerances), actual, expected)


@functools.cache
def base():
  """What all losses say of the batch as it is."""
  return outcomes(random_batch())


@functools.cache
def padded_to_twelve_by_seven(doubled):
  """The batch, or the batch twice, in a frame of padding."""
  batch = random_batch()
  if doubled:
    batch = {field: jnp.concatenate([array, array]) for field, array in batch.items()}
  queries, responses = batch["valid"].shape
  frame = ((0, 12 - queries), (0, 7 - responses))
  return outcomes({field: jnp.pad(array, frame) for field, array in batch.items()})


@functools.cache
def moved(seed, step):
  """The batch's totals some way along a random direction of its values, and that direction."""
  batch = random_batch()
  direction = np.random.default_rng(seed).normal(size=batch["values"].shape).astype(np.float32)
  return outcomes({**batch, "values": batch["values"] + step * direction}), direction


@every_loss
@pytest.mark.parametrize("seed", range(3))
def test_gradient_agrees_with_finite_differences(name, seed):
  if name in PARTLY_CONSTANT:
    return
  step = 5e-3
  (above, direction), (below, _) = moved(seed, step), moved(seed, -step)
  slope = (above[name].total - below[name].total) / (2 * step)
  size = abs(float(base()[name].total))
  expected = np.sum(np.asarray(base()[name].gradient) * direction)
  np.testing.assert_allclose(slope, expected, rtol=5e-3, atol=5e-3 + 5e-5 * size)


@functools.cache
def spoiled(garbage):
  batch = random_batch()
  found = dict(batch)
  for field in ("values", "reference", "rewards"):
    found[field] = jnp.where(batch["valid"], batch[field], garbage)
  found["lengths"] = jnp.where(batch["valid"], batch["lengths"], 0)
  return outcomes(found)


@every_loss
@pytest.mark.parametrize("garbage", [1e9, -1e9, "nan"])
def test_masked_positions_change_neither_value_nor_gradient(name, garbage):
  actual = spoiled(float(garbage))[name]
  assert_same(actual, base()[name], rtol=0, atol=0)
  assert np.all(np.asarray(actual.gradient)[~np.asarray(random_batch()["valid"])] == 0)


@every_loss
def test_more_padding_changes_nothing(name):
  padded = padded_to_twelve_by_seven(doubled=False)[name]
  size = max(1.0, abs(float(base()[name].total)))
  assert_same(padded.total, base()[name].total, atol=1e-6 * size)
  assert_same(padded.count, base()[name].count)
  assert_same(padded.gradient[:6, :4], base()[name].gradient)
  assert np.sum(np.abs(np.asarray(padded.gradient))) == pytest.approx(
    np.sum(np.abs(np.asarray(base()[name].gradient))), rel=1e-5
  )


@functools.cache
def permuted():
  batch = random_batch()
  rng = np.random.default_rng(1)
  queries = rng.permutation(batch["values"].shape[0])
  responses = rng.permutation(batch["values"].shape[1])
  found = outcomes({field: array[queries][:, responses] for field, array in batch.items()})
  return found, queries, responses


@every_loss
def test_order_of_queries_and_responses_is_irrelevant(name):
  found, queries, responses = permuted()
  expected = base()[name]
  expected = expected._replace(gradient=expected.gradient[queries][:, responses])
  assert_same(found[name], expected, atol=1e-5)


@every_loss
def test_duplicating_the_batch_leaves_the_mean(name):
  assert_same(padded_to_twelve_by_seven(doubled=True)[name].mean, base()[name].mean)


@functools.cache
def parts():
  """Two queries at a time, unequal in pairs: a mean of means would be off."""
  batch, queries = random_batch(), np.arange(6)[:, None]
  return [
    outcomes({**batch, "valid": batch["valid"] & (queries // 2 == part)}) for part in range(3)
  ]


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in WHOLE_BATCH])
def test_sums_of_a_batchs_parts_add_up(name):
  """Micro-batches: their totals and gradients over the whole batch's count."""
  found = [part[name] for part in parts()]
  expected = base()[name]
  size = max(1.0, abs(float(expected.total)))
  assert_same(sum(part.total for part in found), expected.total, atol=1e-6 * size)
  assert_same(sum(part.gradient for part in found), expected.gradient)
  assert_same(sum(part.count for part in found), expected.count)
  for metric, total in expected.metrics.items():
    assert_same(sum(part.metrics[metric] for part in found), total)


@pytest.mark.parametrize("name", WHOLE_BATCH)
def test_what_reads_the_whole_batch_has_no_parts(name):
  """So that it says of itself no less than is true, which the config's check goes by."""
  changed = random_batch(seed=2)
  batch = random_batch()
  other = (
    {  # as the batch, but for the queries behind the first two
      field: jnp.concatenate([array[:2], changed[field][2:] + (2 if field == "values" else 0)])
      for field, array in batch.items()
      if field != "valid"
    }
    | {"valid": batch["valid"]}
  )
  gradient = outcomes(other)[name].gradient[:2]
  assert not np.allclose(gradient, base()[name].gradient[:2], rtol=1e-3)


@functools.cache
def with_values(scale):
  """The batch with other values: none, or large ones of either sign."""
  batch = random_batch()
  values = batch["values"] - jnp.mean(batch["values"])
  return outcomes({**batch, "values": values * scale})


@every_loss
def test_the_count_does_not_depend_on_the_model(name):
  """A step counts a whole batch before the model has read it."""
  for scale in (0.0, 1e3, -1.0):
    assert with_values(scale)[name].count == base()[name].count


@functools.cache
def read_alone(name):
  """What a loss says where the responses that it does not read are left out."""
  batch = random_batch()
  read = POLICY_LOSSES[name].reads(batch["rewards"], batch["valid"])
  if np.array_equal(read, batch["valid"]):
    return read, base()[name]
  return read, outcomes({**batch, "valid": read})[name]


@every_policy_loss
def test_what_a_policy_loss_does_not_read_changes_nothing(name):
  """Nor does it where the rest is left out: those samples are not trained on."""
  read, found = read_alone(name)
  assert not np.any(np.asarray(read & ~random_batch()["valid"]))
  assert np.all(np.asarray(base()[name].gradient)[~np.asarray(read)] == 0)
  assert_same(found, base()[name])


@functools.cache
def without_anything():
  batch = random_batch()
  return outcomes({**batch, "valid": jnp.zeros_like(batch["valid"])})


@every_loss
def test_nothing_to_compare_gives_zero_with_zero_gradient(name):
  found = without_anything()[name]
  assert found.total == 0 and found.count == 0
  assert np.all(np.asarray(found.gradient) == 0)


@functools.cache
def with_rewards(how):
  """The batch with other rewards."""
  batch = random_batch()
  rewards = {
    # Of which no sum of three or four is exact, so that a mean of equals is rounded.
    "equal": jnp.full_like(batch["rewards"], 0.1),
    "cubed": batch["rewards"] ** 3,
    "shifted": batch["rewards"] + jnp.arange(6.0)[:, None] / 2,
  }[how]
  return outcomes({**batch, "rewards": rewards})


@pytest.mark.parametrize("name", NEED_A_PREFERENCE)
def test_equal_rewards_make_no_pair(name):
  found = with_rewards("equal")[name]
  assert found.total == 0 and found.count == 0
  assert np.all(np.asarray(found.gradient) == 0)


def differs(one, other):
  return not np.allclose(one.gradient, other.gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in POLICY_LOSSES if name != "likelihood"])
def test_what_a_loss_says_that_it_reads_of_rewards(name):
  loss, expected = POLICY_LOSSES[name], base()[name]
  if loss.order_only:
    assert_same(with_rewards("cubed")[name], expected)
  else:
    assert differs(with_rewards("cubed")[name], expected) or name in ("kto_zero", "dno_prct")
  if loss.across_queries:
    # No reward of the batch is below 0: moved down, some are.
    down = {**random_batch(), "rewards": random_batch()["rewards"] - 0.5}
    assert differs(with_rewards("shifted")[name], expected) or differs(
      outcomes(down)[name], expected
    )
  else:
    assert_same(with_rewards("shifted")[name], expected, rtol=2e-4, atol=1e-5)


@functools.cache
def with_shifted_values():
  batch = random_batch()
  return outcomes({**batch, "values": batch["values"] + jnp.arange(6.0)[:, None]})


@pytest.mark.parametrize("name", READ_DIFFERENCES)
def test_a_constant_for_each_query_cancels(name):
  # Rewards, and implicit rewards, mean something only within a query.
  assert_same(with_shifted_values()[name], base()[name], atol=2e-5)


@functools.cache
def in_half_precision():
  """All losses on the batch in bfloat16, and on the same numbers in float32."""
  batch = random_batch()

  def cast(arrays, before, after):
    return {
      field: array.astype(after) if array.dtype == before else array
      for field, array in arrays.items()
    }

  half = cast(batch, jnp.float32, jnp.bfloat16)
  return outcomes(half), outcomes(cast(half, jnp.bfloat16, jnp.float32))


@every_loss
def test_half_precision_is_upcast_before_any_arithmetic(name):
  half, rounded = (found[name] for found in in_half_precision())
  assert half.total.dtype == jnp.float32
  assert half.gradient.dtype == jnp.bfloat16
  assert_same(half.total, rounded.total, rtol=1e-6)


@every_loss
@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_extreme_values_stay_finite(name, scale):
  found = with_values(scale)[name]
  assert np.isfinite(found.total)
  assert np.all(np.isfinite(found.gradient))


def test_every_choice_is_among_those_that_are_tested():
  assert {type(loss) for loss in POLICY_LOSSES.values()} >= set(PolicyLoss.known.values())
