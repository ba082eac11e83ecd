"""The two updates on shared rows: the losses, metrics and gradients of separate rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from apo_jax.config.schema import LoraConfig
from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.objectives import DPO, RRHF, PolicyLoss, RejectionSampling
from apo_jax.policy_step import make_policy_update
from apo_jax.reward_step import make_reward_update
from apo_jax.run import seeds
from apo_jax.training.optimization import init_state
from tests import batches, tiny

CONFIG = tiny.config()
LORA = LoraConfig(rank=2, alpha=4.0, dropout=0.0, modules=("query", "down"))
SEED = seeds.derive_key(0, "dropout")
# Its state is the gradient of the last update.
GRADIENT = optax.trace(decay=0.0)


@functools.cache
def start(kind: str, lora: LoraConfig | None = None):
  """Fresh parameters, the same whatever the pooling and the update."""
  if kind == "policy":
    return define_policy(tiny.architecture(), tiny.mesh(), lora).init(0)
  return define_reward_model(tiny.architecture(), "last", tiny.mesh()).init(0)


def run(definition, update, batch):
  """The gradients and the metrics of an update from the model's start."""
  kind = "reward" if "reward_head" in definition.abstract else "policy"
  # An update writes over what it trains.
  trained, frozen = definition.split(jax.tree.map(jnp.copy, start(kind, definition.lora)))
  state = init_state(definition, GRADIENT, trained)
  state, metrics = update(state, batch, frozen, SEED)
  return state.optimizer_state.trace, metrics


def assert_same(first, second):
  gradients, expected = first[0], second[0]
  scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
  assert scale > 1e-4
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * scale),
    gradients,
    expected,
  )
  assert first[1].keys() == second[1].keys()
  for name, value in second[1].items():
    np.testing.assert_allclose(first[1][name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@functools.cache
def reward_update(pooling: str, accumulation: int = 1):
  definition = define_reward_model(tiny.architecture(), pooling, tiny.mesh())
  update = make_reward_update(
    definition, GRADIENT, CONFIG.reward.apo, tiny.mesh(), num_samples=3, accumulation=accumulation
  )
  return definition, update


@functools.cache
def policy_update(
  accumulation: int = 1, lora: LoraConfig | None = None, loss: PolicyLoss = CONFIG.policy.loss
):
  definition = define_policy(tiny.architecture(), tiny.mesh(), lora)
  update = make_policy_update(definition, GRADIENT, loss, tiny.mesh(), accumulation=accumulation)
  return definition, update


def padded(rows, length):
  """Shared rows with more padding at their end."""
  widths = [(0, 0), (0, length - rows.tokens.shape[1])]
  return type(rows)(*(np.pad(array, widths) for array in rows))


def slow(value):
  return pytest.param(value, marks=pytest.mark.slow)


@pytest.mark.parametrize("pooling", ["last", slow("eos"), slow("average"), slow("max")])
def test_reward_updates_are_those_of_separate_rows(pooling):
  separate, shared = batches.reward_batch(), batches.reward_batch(shared=True)
  expected = run(*reward_update(pooling), separate)
  # Rows of 3 and of 4 responses have two lengths, and take two forward passes.
  assert shared.preferences.tokens.shape == (8, 31) and shared.golden.tokens.shape == (8, 39)
  assert_same(run(*reward_update(pooling), shared), expected)


@pytest.mark.parametrize("separate_part", ["none", "preferences"])
def test_one_forward_pass_reads_rows_of_one_length(separate_part):
  batch = batches.reward_batch(shared=True)
  expected = run(*reward_update("last"), batch)
  if separate_part == "none":
    one = batch._replace(preferences=padded(batch.preferences, 39))
  else:
    rows = batches.reward_batch().preferences
    widths = [(0, 0), (0, 0), (0, 39 - batches.LENGTH)]
    one = batch._replace(preferences=type(rows)(*(np.pad(array, widths) for array in rows)))
  assert_same(run(*reward_update("last"), one), expected)


def test_preferences_alone():
  separate, shared = (batches.reward_batch(golden=0, shared=shared) for shared in (False, True))
  assert_same(run(*reward_update("eos"), shared), run(*reward_update("eos"), separate))


@pytest.mark.parametrize(
  "loss",
  [
    RejectionSampling(),
    RRHF(),
    DPO(pairs="best_worst"),
    slow(DPO(pairs="best_rest")),
    DPO(pairs="all"),
  ],
  ids=str,
)
def test_policy_updates_are_those_of_separate_rows(loss):
  separate, shared = batches.policy_batch(), batches.policy_batch(shared=True)
  assert shared.rows.tokens.shape == (8, 31)
  update = policy_update(loss=loss)
  assert_same(run(*update, shared), run(*update, separate))


@pytest.mark.slow
def test_adapters():
  separate, shared = batches.policy_batch(), batches.policy_batch(shared=True)
  update = policy_update(lora=LORA)
  gradients, _ = run(*update, shared)
  assert all("lora_" in name for name in gradients["layers"])
  assert_same(run(*update, shared), run(*update, separate))


@pytest.mark.slow
def test_micro_batches_are_the_batch():
  batch = batches.policy_batch(shared=True)
  assert_same(run(*policy_update(accumulation=4), batch), run(*policy_update(), batch))
  batch = batches.reward_batch(shared=True)
  assert_same(run(*reward_update("last", 4), batch), run(*reward_update("last"), batch))
