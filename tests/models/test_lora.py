"""Adapters: what they compute, what they leave alone, what their training keeps."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.config.schema import LoraConfig
from apo_jax.models import lora as lora_adapters
from apo_jax.models.definition import define_policy, define_reward_model, join, merged
from apo_jax.models.logprobs import sequence_logprobs
from apo_jax.policy_step import make_policy_update
from apo_jax.reward_step import make_reward_update
from apo_jax.rows.rows import Rows, flatten
from apo_jax.run import seeds
from apo_jax.training.optimization import init_state, make_optimizer
from tests import batches, tiny

CONFIG = tiny.config()
ALL = tuple(lora_adapters.INPUT_AXES)
LORA = LoraConfig(rank=3, alpha=6.0, dropout=0.0, modules=ALL)
TRAINING = dataclasses.replace(
  CONFIG.policy.training, learning_rate=1e-2, warmup_steps=0, schedule="constant"
)
SEED = seeds.derive_key(0, "dropout")


@functools.cache
def policy(lora: LoraConfig | None):
  definition = define_policy(tiny.architecture(), tiny.mesh(), lora)
  return definition, definition.init(0)


def awake(parameters):
  """The parameters with adapters whose B is no longer zero."""

  def wake(path, value):
    if path[-1].key.startswith("lora_") and path[-1].key.endswith("_b"):
      return jax.random.normal(jax.random.key(len(path[-1].key)), value.shape) * 0.3
    return value

  return jax.tree_util.tree_map_with_path(wake, parameters)


@functools.cache
def reader(lora: LoraConfig | None):
  definition = define_policy(tiny.architecture(), tiny.mesh(), lora)

  @jax.jit
  def read(parameters, rows, key):
    return sequence_logprobs(definition.bind(parameters), rows, dropout_key=key)

  return read


def logprobs(definition, parameters, key=None) -> np.ndarray:
  rows = Rows(*map(jnp.asarray, flatten(batches.policy_batch().rows)))
  return np.asarray(reader(definition.lora)(parameters, rows, key))


def test_a_fresh_adapter_changes_nothing():
  adapted, parameters = policy(LORA)
  plain, _ = policy(None)
  _, frozen = adapted.split(parameters)
  np.testing.assert_array_equal(logprobs(adapted, parameters), logprobs(plain, frozen))


@pytest.mark.parametrize("module", ALL)
def test_an_adapter_adds_its_low_rank_product_to_the_weight(module):
  """alpha / rank * A B, written out with NumPy, in the weight of a plain model."""
  lora = dataclasses.replace(LORA, modules=(module,))
  adapted = define_policy(tiny.architecture(), tiny.mesh(), lora)
  # Of one policy with adapters everywhere, those of this module.
  whole = awake(policy(LORA)[1])
  kept = adapted.abstract["layers"]
  parameters = whole | {"layers": {name: whole["layers"][name] for name in kept}}
  layers = dict(parameters["layers"])
  a, b = (np.asarray(layers.pop(name)) for name in lora_adapters.names(module))
  weight = layers[module]
  change = np.stack(
    [x.reshape(-1, 3) @ y.reshape(3, -1) for x, y in zip(a, b, strict=True)]
  ).reshape(weight.shape)
  layers[module] = weight + 2.0 * change
  plain, _ = policy(None)
  expected = logprobs(plain, parameters | {"layers": layers})
  actual = logprobs(adapted, parameters)
  np.testing.assert_allclose(actual, expected, atol=1e-4)
  assert np.abs(actual - logprobs(plain, policy(None)[1])).max() > 1e-2


def test_merged_parameters_are_a_plain_model_s_and_compute_the_same():
  adapted, parameters = policy(LORA)
  parameters = awake(parameters)
  plain, fresh = policy(None)
  whole = merged(parameters, LORA)
  assert jax.tree.structure(whole) == jax.tree.structure(fresh)
  np.testing.assert_allclose(logprobs(plain, whole), logprobs(adapted, parameters), atol=1e-4)


def test_split_and_join_are_inverse():
  definition, parameters = policy(LORA)
  trained, frozen = definition.split(parameters)
  assert set(trained) == {"layers"}
  assert all(name.startswith("lora_") for name in trained["layers"])
  assert set(trained["layers"]) | set(frozen["layers"]) == set(parameters["layers"])
  again = join(trained, frozen)
  assert jax.tree.structure(again) == jax.tree.structure(parameters)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), again, parameters)


def test_a_part_of_fresh_parameters_is_that_part_of_all():
  definition, parameters = policy(LORA)
  part = definition.init_part(0, lambda whole: definition.split(whole)[0])
  jax.tree.map(np.testing.assert_array_equal, part, definition.split(parameters)[0])


def test_dropout_is_of_the_adapters_alone_and_off_without_a_key():
  lora = dataclasses.replace(LORA, dropout=0.5)
  definition, parameters = policy(lora)
  fresh = logprobs(definition, parameters)
  np.testing.assert_array_equal(logprobs(definition, parameters, jax.random.key(0)), fresh)
  parameters = awake(parameters)
  off = logprobs(definition, parameters)
  np.testing.assert_array_equal(off, logprobs(policy(LORA)[0], parameters))
  first, again, second = (
    logprobs(definition, parameters, jax.random.key(seed)) for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, second)
  assert not np.array_equal(first, off)


def test_dropout_keeps_the_mean_of_what_an_adapter_adds():
  x, a, b = jnp.ones((1, 1, 4)), jnp.ones((4, 3)), jnp.ones((3, 2))
  lora = dataclasses.replace(LORA, dropout=0.25)
  keys = jax.random.split(jax.random.key(0), 2000)
  added = jax.vmap(lambda key: lora_adapters.low_rank(x, a, b, lora, key))(keys)
  expected = lora_adapters.low_rank(x, a, b, lora, None)  # 4 * 3 * alpha / rank
  np.testing.assert_allclose(expected, 24.0, rtol=1e-6)
  # Each of 4 inputs is kept with 3/4: a standard deviation of 24 / 4 * sqrt(4 / 3) / sqrt(2000).
  np.testing.assert_allclose(jnp.mean(added, axis=0), expected, atol=4 * 0.155)


@pytest.mark.parametrize("dropout", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_a_policy_update_trains_adapters_alone(dropout):
  lora = dataclasses.replace(LORA, dropout=dropout)
  definition, parameters = policy(lora)
  trained, frozen = definition.split(parameters)
  optimizer = make_optimizer(TRAINING, 10)
  update = make_policy_update(
    definition, optimizer, CONFIG.policy.loss, tiny.mesh(), accumulation=2
  )
  state = init_state(definition, optimizer, trained)
  sizes = {leaf.size for leaf in jax.tree.leaves(state.optimizer_state)}
  assert sizes == {1, *(leaf.size for leaf in jax.tree.leaves(trained))}
  before = jax.tree.map(np.asarray, frozen)
  batch = batches.policy_batch()
  losses = []
  for _ in range(4):
    state, metrics = update(state, batch, frozen, SEED)
    losses.append(float(metrics["loss"]))
  assert jax.tree.structure(state.parameters) == jax.tree.structure(trained)
  assert losses[-1] < losses[0]
  # What is shared with other players is neither changed nor donated.
  jax.tree.map(np.testing.assert_array_equal, frozen, before)


def test_a_reward_update_trains_adapters_and_the_head():
  definition = define_reward_model(tiny.architecture(), "last", tiny.mesh(), LORA)
  parameters = definition.init(0)
  trained, frozen = definition.split(parameters)
  assert set(trained) == {"trunk", "reward_head"}
  assert set(trained["trunk"]) == {"layers"}
  optimizer = make_optimizer(TRAINING, 10)
  update = make_reward_update(
    definition, optimizer, CONFIG.reward.apo, tiny.mesh(), num_samples=3, accumulation=1
  )
  state, first = update(
    init_state(definition, optimizer, trained), batches.reward_batch(), frozen, SEED
  )
  assert not np.array_equal(state.parameters["reward_head"], trained["reward_head"])
  for _ in range(3):
    state, last = update(state, batches.reward_batch(), frozen, SEED)
  assert float(last["loss"]) < float(first["loss"])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_dropout_and_each_update_another():
  lora = dataclasses.replace(LORA, dropout=0.5)
  definition, parameters = policy(lora)
  trained, frozen = definition.split(awake(parameters))
  optimizer = make_optimizer(dataclasses.replace(TRAINING, learning_rate=1e-12), 10)
  update = make_policy_update(
    definition, optimizer, CONFIG.policy.loss, tiny.mesh(), accumulation=1
  )

  def two_losses(seed):
    state, losses = init_state(definition, optimizer, trained), []
    for _ in range(2):
      state, metrics = update(state, batches.policy_batch(), frozen, seed)
      losses.append(float(metrics["loss"]))
    return losses

  losses = two_losses(SEED)
  assert losses == two_losses(SEED)
  assert losses[0] != losses[1]
  assert losses[0] != two_losses(seeds.derive_key(1, "dropout"))[0]
