"""Masters in bfloat16: updates too small for the type still count, on average."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.policy_step import make_policy_update
from apo_jax.training.optimization import abstract_state, init_state, make_optimizer
from apo_jax.training.rounding import add_updates, round_stochastically
from tests import batches, tiny

CONFIG = tiny.config()
TRAINING = dataclasses.replace(
  CONFIG.policy.training, learning_rate=1e-2, warmup_steps=0, schedule="constant"
)
KEY = np.array([3, 4], np.uint32)


def test_a_value_between_two_numbers_becomes_each_as_often_as_it_is_near():
  # bfloat16 has 7 bits behind the point: 1 and 1 + 2**-7 are neighbours.
  values = jnp.full((20000,), 1 + 0.25 * 2.0**-7)
  rounded = np.asarray(round_stochastically(values, jax.random.key(0)), np.float32)
  assert set(rounded.tolist()) == {1.0, 1 + 2.0**-7}
  share = np.mean(rounded > 1)
  assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 20000) ** 0.5


def test_what_bfloat16_can_say_is_kept_and_what_is_no_number_stays_none():
  exact = jnp.array([0.0, -1.5, 3e38, 2.0**-120]).astype(jnp.bfloat16).astype(jnp.float32)
  np.testing.assert_array_equal(round_stochastically(exact, jax.random.key(1)), exact)
  strange = jnp.array([jnp.inf, -jnp.inf, jnp.nan])
  rounded = round_stochastically(strange, jax.random.key(1)).astype(jnp.float32)
  np.testing.assert_array_equal(rounded, strange)


def test_small_updates_add_up_in_bfloat16_and_float32_is_added_as_ever():
  parameters = {"a": jnp.ones((4000,), jnp.bfloat16), "b": jnp.ones((3,))}
  updates = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 1e-4), parameters)
  for step in range(50):
    parameters = add_updates(parameters, updates, jax.random.key(step))
  # To the nearest, ones would stay ones: half the way to the next number is 40 times an update.
  mean = np.mean(np.asarray(parameters["a"], np.float32))
  np.testing.assert_allclose(mean, 1.005, atol=5 * (1e-4 * 2.0**-7 * 50 / 4000) ** 0.5)
  np.testing.assert_allclose(parameters["b"], 1.005, rtol=1e-6)


def test_masters_and_moments_have_the_types_that_the_config_says():
  architecture = tiny.architecture(master_dtype="bfloat16")
  reward = define_reward_model(architecture, "last", tiny.mesh())
  types = {
    path[-1].key: str(leaf.dtype)
    for path, leaf in jax.tree_util.tree_leaves_with_path(reward.abstract)
  }
  wide = {name for name, dtype in types.items() if dtype == "float32"}
  assert wide == {"attention_norm", "mlp_norm", "final_norm", "reward_head"}
  assert set(types.values()) == {"float32", "bfloat16"}
  optimizer = make_optimizer(dataclasses.replace(TRAINING, mean_dtype="bfloat16"), 10)
  adam = optax.tree.get(abstract_state(reward, optimizer).optimizer_state, "ScaleByAdamState")
  assert {leaf.dtype for leaf in jax.tree.leaves(adam.mu)} == {jnp.dtype("bfloat16")}
  assert {leaf.dtype for leaf in jax.tree.leaves(adam.nu)} == {jnp.dtype("float32")}


@pytest.mark.slow
def test_a_policy_with_bfloat16_masters_learns():
  definition = define_policy(tiny.architecture(master_dtype="bfloat16"), tiny.mesh())
  optimizer = make_optimizer(dataclasses.replace(TRAINING, mean_dtype="bfloat16"), 10)
  update = make_policy_update(
    definition, optimizer, CONFIG.policy.loss, tiny.mesh(), accumulation=2
  )
  state = init_state(definition, optimizer, definition.init(0))
  types = jax.tree.map(lambda leaf: leaf.dtype, state)
  losses = []
  for _ in range(4):
    state, metrics = update(state, batches.policy_batch(), {}, KEY)
    losses.append(float(metrics["loss"]))
  assert losses[-1] < losses[0]
  assert jax.tree.map(lambda leaf: leaf.dtype, state) == types
