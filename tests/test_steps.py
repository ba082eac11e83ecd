"""The two updates: what they optimise, how they accumulate, what they report."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from apo_jax import objectives
from apo_jax.models.definition import define_reward_model
from apo_jax.models.logprobs import sequence_logprobs
from apo_jax.policy_step import make_policy_update
from apo_jax.reward_step import make_reward_update
from apo_jax.rows.rows import SHARED_SEGMENT, Rows, flatten
from apo_jax.training.optimization import (
  clip_by_global_norm,
  init_state,
  make_optimizer,
  make_schedule,
)
from tests import batches, tiny

CONFIG = tiny.config()
TRAINING = dataclasses.replace(
  CONFIG.policy.training, learning_rate=1e-3, warmup_steps=0, schedule="constant", clip_norm=1e9
)
# One of each kind: what others say of the same arrays is held in tests/objectives.
LOSSES = {
  name: objectives.PolicyLoss.known[name]()
  for name in ("rjs", "rrhf", "dpo", "spin", "sequential_po", "relative_po")
}


@functools.cache
def reward_model():
  definition = define_reward_model(tiny.architecture(), "last", tiny.mesh())
  return definition, definition.init(0)


@functools.cache
def reward_update(accumulation: int = 1, **changes):
  definition, _ = reward_model()
  loss = dataclasses.replace(CONFIG.reward.apo, **changes)
  optimizer = make_optimizer(TRAINING, 10)
  update = make_reward_update(
    definition, optimizer, loss, tiny.mesh(), num_samples=3, accumulation=accumulation
  )
  return update, optimizer


@functools.cache
def policy_update(accumulation: int = 1, loss: str = "dpo"):
  definition, _ = tiny.policy()
  optimizer = make_optimizer(TRAINING, 10)
  update = make_policy_update(
    definition, optimizer, LOSSES[loss], tiny.mesh(), accumulation=accumulation
  )
  return update, optimizer


def run_reward(batch, **settings):
  definition, parameters = reward_model()
  update, optimizer = reward_update(**settings)
  return update(init_state(definition, optimizer, parameters), batch, {}, tiny.NO_KEY)


def run_policy(batch, **settings):
  definition, parameters = tiny.policy()
  update, optimizer = policy_update(**settings)
  return update(init_state(definition, optimizer, parameters), batch, {}, tiny.NO_KEY)


def assert_same(first, second, tolerance=1e-5):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=tolerance), first, second
  )


@pytest.mark.parametrize("reduction", ["mean", "reference"])
def test_reward_loss_is_the_objective_of_the_model_s_rewards(reduction):
  batch = batches.reward_batch()
  definition, parameters = reward_model()
  model = definition.bind(parameters)

  def rewards(rows: Rows, shape):
    return model(*map(jnp.asarray, flatten(rows).read)).reshape(shape)

  preference_rewards = rewards(batch.preferences, batch.preference_scores.shape)
  golden_rewards = rewards(batch.golden, batch.golden_scores.shape)
  loss = dataclasses.replace(CONFIG.reward.apo, reduction=reduction)
  sums = loss(
    objectives.ScoredRewards(
      preference_rewards,
      jnp.asarray(batch.preference_scores),
      golden_rewards,
      jnp.asarray(batch.golden_scores),
      jnp.asarray(batch.golden_twins),
    )
  )
  totals, counts = ({name: one[part] for name, one in sums.items()} for part in (0, 1))
  assert counts["golden"] == counts["golden_pairs"] + 6
  expected, terms = loss.combine(totals, counts, num_samples=3)
  _, metrics = run_reward(batch, reduction=reduction)
  np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
  np.testing.assert_allclose(metrics["golden_loss"], terms["golden"], rtol=1e-5)
  np.testing.assert_allclose(metrics["preference_loss"], terms["preference"], rtol=1e-5)
  accuracy = objectives.preference_accuracy(golden_rewards, jnp.asarray(batch.golden_scores))
  np.testing.assert_allclose(metrics["golden_accuracy"], accuracy, rtol=1e-5)
  there = batch.golden_scores[:, 0] == 1
  margin = np.mean((golden_rewards[:, :1] - golden_rewards[:, 1:])[there])
  np.testing.assert_allclose(metrics["golden_margin"], margin, rtol=1e-4)


def batch_for(loss):
  """A batch with the arrays that a loss reads beside those of all."""
  batch = batches.policy_batch()
  rng, shape = np.random.default_rng(1), batch.valid.shape
  if LOSSES[loss].reads_golden:
    batch = batch._replace(golden=np.broadcast_to(np.arange(shape[1]) == 0, shape).copy())
  if LOSSES[loss].reads_earlier_policy:
    batch = batch._replace(earlier_logprobs=rng.normal(size=shape).astype(np.float32) - 10)
  return batch


def mean_hidden_states(policy, rows):
  """Of each query of separate rows, by the first row of three."""
  hidden, _ = policy(rows.tokens, rows.segment_ids, rows.positions, separate=True)
  is_query = np.asarray(rows.segment_ids == SHARED_SEGMENT)[::3]
  sums = np.einsum("bt,btd->bd", is_query, np.asarray(hidden, np.float32)[::3])
  return jnp.asarray(sums / np.maximum(is_query.sum(axis=1, keepdims=True), 1))


@pytest.mark.parametrize("loss", LOSSES)
def test_policy_loss_is_the_objective_of_the_model_s_logprobs(loss):
  batch = batch_for(loss)
  definition, parameters = tiny.policy()
  rows = Rows(*map(jnp.asarray, flatten(batch.rows)))
  policy, shape = definition.bind(parameters), batch.valid.shape
  logprobs = sequence_logprobs(policy, rows).reshape(shape)
  # A stop string's end is learnt where it is imitated, and is in no ratio.
  with_ends = rows._replace(response_mask=rows.response_mask | rows.ends)
  responses = objectives.ScoredResponses(
    logprobs,
    jnp.asarray(batch.reference_logprobs),
    jnp.asarray(batch.rows.response_mask.sum(-1)),
    jnp.asarray(batch.rewards),
    jnp.asarray(batch.valid),
    sequence_logprobs(policy, with_ends).reshape(shape),
    jnp.asarray(with_ends.response_mask.sum(-1)).reshape(shape),
    batch.golden,
    batch.earlier_logprobs,
    mean_hidden_states(policy, rows) if LOSSES[loss].reads_query_embeddings else None,
  )
  assert np.any(np.asarray(responses.imitated_lengths > responses.lengths))
  expected = LOSSES[loss](responses).mean
  _, metrics = run_policy(batch, loss=loss)
  np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
  ratio = np.mean((np.asarray(logprobs) - batch.reference_logprobs)[batch.valid])
  np.testing.assert_allclose(metrics["log_ratio"], ratio, rtol=1e-4)
  lengths = batch.rows.response_mask.sum(-1)[batch.valid]
  np.testing.assert_allclose(metrics["response_length"], lengths.mean(), rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", pytest.param("reference", marks=pytest.mark.slow)])
def test_reward_batch_of_8_equals_8_accumulated_micro_batches(reduction):
  batch = batches.reward_batch()
  assert_same(
    run_reward(batch, reduction=reduction),
    run_reward(batch, reduction=reduction, accumulation=8),
  )


@pytest.mark.parametrize("loss", ["rjs", "rrhf", "dpo", "spin"])
def test_policy_batch_of_8_equals_8_accumulated_micro_batches(loss):
  batch = batch_for(loss)
  assert_same(run_policy(batch, loss=loss), run_policy(batch, loss=loss, accumulation=8))


def test_padding_items_change_nothing():
  """Rows of padding at the end of a batch: the same update as without them."""
  whole = batches.policy_batch(queries=8)
  padded = batches.PolicyBatch(
    rows=Rows(*(np.concatenate([a, np.zeros_like(a)]) for a in whole.rows)),
    rewards=np.concatenate([whole.rewards, np.full_like(whole.rewards, 7)]),
    reference_logprobs=np.concatenate([whole.reference_logprobs] * 2),
    valid=np.concatenate([whole.valid, np.zeros_like(whole.valid)]),
  )
  assert_same(run_policy(whole), run_policy(padded))


def test_preferences_alone_train_without_a_golden_term():
  _, metrics = run_reward(batches.reward_batch(golden=0))
  assert "golden_loss" not in metrics and "golden_margin" not in metrics
  expected = CONFIG.reward.apo.preference_coefficient * metrics["preference_loss"]
  np.testing.assert_allclose(metrics["loss"], expected)


@pytest.mark.parametrize("run", [run_reward, run_policy], ids=["reward", "policy"])
def test_updates_lower_the_loss_and_count(run):
  if run is run_reward:
    batch, update = batches.reward_batch(), reward_update()[0]
  else:
    batch, update = batches.policy_batch(), policy_update()[0]
  state, first = run(batch)
  for _ in range(4):
    state, metrics = update(state, batch, {}, tiny.NO_KEY)
  assert float(metrics["loss"]) < float(first["loss"])
  assert int(state.step) == 5


def test_the_state_is_donated():
  definition, parameters = tiny.policy()
  update, optimizer = policy_update()
  state = init_state(definition, optimizer, parameters)
  update(state, batches.policy_batch(), {}, tiny.NO_KEY)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.parameters))
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(parameters))


def test_gradient_norm_is_that_of_the_loss():
  batch = batches.policy_batch()
  definition, parameters = tiny.policy()
  masks = batch.rows.response_mask | batch.rows.ends
  rows = Rows(*map(jnp.asarray, flatten(batch.rows._replace(response_mask=masks))))

  @jax.jit
  @jax.grad
  def gradient(parameters):
    logprobs = sequence_logprobs(definition.bind(parameters), rows).reshape(batch.valid.shape)
    lengths = jnp.asarray(masks.sum(-1))
    rewards, valid = jnp.asarray(batch.rewards), jnp.asarray(batch.valid)
    responses = objectives.ScoredResponses(logprobs, None, lengths, rewards, valid)
    return objectives.RejectionSampling()(responses).mean

  _, metrics = run_policy(batch, loss="rjs")
  expected = optax.tree.norm(gradient(parameters))
  np.testing.assert_allclose(metrics["gradient_norm"], expected, rtol=1e-4)


@pytest.mark.parametrize(
  "share", [0.5, *(pytest.param(s, marks=pytest.mark.slow) for s in (1.0, 2.0))]
)
def test_gradients_are_clipped_as_optax_clips_them(share):
  _, parameters = tiny.policy()
  gradients = jax.tree.map(lambda leaf: 3 * leaf + 0.1, parameters)
  limit = share * float(optax.tree.norm(gradients))
  theirs = optax.clip_by_global_norm(limit)
  expected, _ = theirs.update(gradients, theirs.init(gradients))
  ours = clip_by_global_norm(limit)
  clipped, _ = ours.update(gradients, ours.init(gradients))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), clipped, expected)


def test_weight_decay_spares_norms():
  decayed = dataclasses.replace(TRAINING, weight_decay=0.5)
  _, parameters = tiny.policy()
  optimizer = make_optimizer(decayed, 10)
  zeros = jax.tree.map(jnp.zeros_like, parameters)
  updates, _ = optimizer.update(zeros, optimizer.init(parameters), parameters)
  rate = decayed.learning_rate * decayed.weight_decay
  for path, update in jax.tree_util.tree_leaves_with_path(updates):
    value = functools.reduce(lambda tree, key: tree[key.key], path, parameters)
    expected = 0.0 if "norm" in path[-1].key else -rate * value
    np.testing.assert_allclose(update, expected, rtol=1e-5)


@pytest.mark.parametrize(
  ("schedule", "expected"),
  [
    ("constant", [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]),
    ("cosine", [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.25]),
  ],
)
def test_schedules_by_hand(schedule, expected):
  config = dataclasses.replace(TRAINING, learning_rate=1.0, warmup_steps=4, schedule=schedule)
  made = make_schedule(config, 7)
  np.testing.assert_allclose([made(step) for step in range(7)], expected, atol=1e-6)
