"""Responses in one row behind their query: the numbers and gradients of rows of their own."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.config.schema import LoraConfig
from apo_jax.models.architecture import LayerKind, Rope
from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.models.logprobs import sequence_logprobs
from apo_jax.rows.reading import as_sequences
from tests import batches, tiny

PRESENT = np.array([[True, True, True], [False, True, True], [False, False, False], [True] * 3])
WINDOWED = tiny.architecture(
  kinds=(LayerKind(Rope(10_000.0), window=4), LayerKind(None)),
  activation="gelu_tanh",
  post_norms=True,
  attention_softcap=5.0,
)
ARCHITECTURES = {"plain": tiny.architecture(), "windowed": WINDOWED}
LORA = LoraConfig(rank=2, alpha=4.0, dropout=0.0, modules=("query", "down"))
EVERY = pytest.mark.parametrize(
  "architecture", ["plain", pytest.param("windowed", marks=pytest.mark.slow)]
)


@functools.cache
def policy(architecture):
  definition = define_policy(ARCHITECTURES[architecture], tiny.mesh())
  return definition, definition.init(0)


@functools.cache
def reward_parameters(architecture):
  """Those of every pooling: it has none of its own."""
  return define_reward_model(ARCHITECTURES[architecture], "last", tiny.mesh()).init(0)


def rows(shared):
  made = batches.rows(np.random.default_rng(0), PRESENT, shared)
  return jax.tree.map(jnp.asarray, made)


def read_policy(definition, parameters, shared):
  sequences, held = as_sequences(rows(shared), PRESENT.shape[1])
  return sequence_logprobs(definition.bind(parameters), sequences, held)


def read_reward(definition, parameters, shared):
  sequences, held = as_sequences(rows(shared), PRESENT.shape[1])
  return definition.bind(parameters)(*sequences.read, held)


def values_and_gradients(read, definition, parameters, shared):
  """What is said of each response, and the gradient of an arbitrary function of it."""

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def loss(parameters):
    values = read(definition, parameters, shared).reshape(PRESENT.shape)
    weights = jnp.cos(jnp.arange(PRESENT.size)).reshape(PRESENT.shape)
    # Masked before, as in the losses: what is missing may have any reward, infinite ones too.
    return jnp.sum(weights * jnp.sin(jnp.where(PRESENT, values, 0.0))), values

  (_, values), gradients = loss(parameters)
  return np.asarray(values), gradients


def assert_equal(read, definition, parameters):
  expected, expected_gradients = values_and_gradients(read, definition, parameters, False)
  values, gradients = values_and_gradients(read, definition, parameters, True)
  np.testing.assert_allclose(values[PRESENT], expected[PRESENT], rtol=1e-5, atol=1e-5)
  assert np.ptp(values[PRESENT]) > 1e-2
  scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected_gradients))
  assert scale > 1e-3
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * scale),
    gradients,
    expected_gradients,
  )
  return values


@EVERY
@pytest.mark.parametrize("slots", [None, pytest.param(1, marks=pytest.mark.slow), 5])
def test_log_probabilities(architecture, slots):
  """Whole, and in chunks of so many slots of every shared row."""
  definition, parameters = policy(architecture)
  if slots:
    size = slots * len(PRESENT) * definition.architecture.vocab_rows
    smaller = dataclasses.replace(ARCHITECTURES[architecture], logits_at_once=size)
    definition = define_policy(smaller, tiny.mesh())
  values = assert_equal(read_policy, definition, parameters)
  np.testing.assert_array_equal(values[~PRESENT], 0.0)


@EVERY
@pytest.mark.parametrize(
  "pooling",
  ["last", *(pytest.param(one, marks=pytest.mark.slow) for one in ("eos", "average", "max"))],
)
def test_rewards(architecture, pooling):
  definition = define_reward_model(ARCHITECTURES[architecture], pooling, tiny.mesh())
  values = assert_equal(read_reward, definition, reward_parameters(architecture))
  assert np.isfinite(values[PRESENT]).all()


def test_adapters():
  definition = define_policy(tiny.architecture(), tiny.mesh(), LORA)
  awake = jax.tree.map(lambda leaf: leaf + 0.01, definition.init(0))
  assert_equal(read_policy, definition, awake)


def test_a_response_does_not_see_its_neighbours():
  """Another first response changes nothing of the second, and of the query neither."""
  definition, parameters = tiny.policy()
  both = rows(True)
  read = jax.jit(lambda parameters, *arrays: definition.bind(parameters)(*arrays)[0])
  hidden = read(parameters, *both[:3])
  changed = jnp.where(both.segment_ids == 2, 5, both.tokens)
  other = read(parameters, changed, *both[1:3])
  same = np.asarray((both.segment_ids != 2) & (both.segment_ids != 0))
  np.testing.assert_array_equal(np.asarray(other)[same], np.asarray(hidden)[same])
  assert not np.array_equal(other, hidden)
