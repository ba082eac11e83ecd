"""The types of frozen weights: what is kept, who shares it, and what is computed with it."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix

from apo_jax.config.schema import LoraConfig
from apo_jax.inference.decoding_weights import decoding_form
from apo_jax.models import frozen
from apo_jax.models.definition import Definition, define_policy, define_reward_model, join
from apo_jax.models.hugging_face.importing import import_decoder
from apo_jax.models.parameters import Parameters, count, size_in_bytes
from apo_jax.policy_step import make_policy_update
from apo_jax.training.optimization import init_state, make_optimizer
from apo_jax.training.update import lower_update
from tests import batches, tiny
from tests.golden.hugging_face_weights import weights
from tests.models.hugging_face import cases

LORA = LoraConfig(rank=2, alpha=4.0, dropout=0.0, modules=("query", "down"))
TYPES = ("bfloat16", "int8", "nf4")
# What is most unlike the weights themselves stands for all.
MOST_SLOW = [*(pytest.param(one, marks=pytest.mark.slow) for one in TYPES[:2]), TYPES[2]]
CONFIG = tiny.config()
TRAINING = dataclasses.replace(
  CONFIG.policy.training, learning_rate=1e-2, warmup_steps=0, schedule="constant"
)
GOLDEN = tiny.ROOT / "tests" / "golden" / "quantised.json"


def types(parameters: Parameters) -> set[str]:
  return {str(leaf.dtype) for leaf in jax.tree.leaves(parameters)}


def in_full(parameters: Parameters) -> Parameters:
  """Plain float32 parameters of the numbers that frozen ones stand for."""
  return jax.tree.map(
    lambda weight: frozen.in_full(weight, "float32"),
    parameters,
    is_leaf=lambda leaf: isinstance(leaf, qwix.QArray),
  )


def awake(definition: Definition) -> Parameters:
  """Adapters of which none is zero."""
  made = definition.init_part(0, lambda parameters: definition.split(parameters)[0])
  return jax.tree.map(lambda leaf: leaf + 0.05, made)


def test_nf4_is_that_of_bitsandbytes():
  golden = json.loads(GOLDEN.read_text())
  theirs = weights(golden["name"], tuple(golden["shape"]), 0.0)
  outputs, inputs = theirs.shape
  codes = [int(digit, 16) for digit in golden["codes"]]
  quantised = frozen.quantise(jnp.asarray(theirs.T), "nf4", (0,))
  np.testing.assert_array_equal(quantised.qvalue.T.astype(int).ravel(), codes)
  scales = np.array(golden["scales"], np.float32).reshape(outputs, -1)
  np.testing.assert_array_equal(quantised.scale.T, scales)
  table = np.array(golden["table"], np.float32)
  expected = table[codes].reshape(outputs, inputs) * np.repeat(scales, 64, axis=1)
  np.testing.assert_array_equal(frozen.in_full(quantised, "float32").T, expected)


def test_int8_is_off_by_half_a_step_at_most():
  weight = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
  weight[:, :, 1] *= 100  # an output's scale is its own
  weight[:, :, 2] = 0
  quantised = frozen.quantise(jnp.asarray(weight), "int8", (0, 1))
  largest = np.abs(weight).max((0, 1))
  np.testing.assert_allclose(
    quantised.scale[0, 0, [0, 1, 3, 4]] * 127, largest[[0, 1, 3, 4]], rtol=1e-6
  )
  off = np.abs(frozen.in_full(quantised, "float32") - weight).max((0, 1))
  assert np.all(off <= largest / 127 / 2 * 1.0001)
  assert off[0] > 0


@pytest.mark.parametrize("frozen_dtype", MOST_SLOW)
def test_a_checkpoint_is_kept_as_its_weights_are(frozen_dtype, tmp_path):
  """Read and kept tensor by tensor; whole, then kept."""
  checkpoint = cases.read(cases.write(tmp_path, "llama"))
  architecture = dataclasses.replace(checkpoint.architecture, frozen_dtype=frozen_dtype)
  policy = define_policy(architecture, tiny.mesh(), LORA)
  trained, described = policy.split(policy.abstract)
  assert types(trained) == {"float32"}
  imported = import_decoder(checkpoint, described, cases.FIELD)
  plain = define_policy(checkpoint.architecture, tiny.mesh())
  whole = import_decoder(checkpoint, plain.abstract, cases.FIELD)
  kept = frozen.keep(whole, frozen_dtype)
  assert jax.tree.structure(imported) == jax.tree.structure(kept)
  # Compiled and not, a scale may differ in its last bit.
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6),
    in_full(imported),
    in_full(kept),
  )
  kept_as = {"bfloat16": set(), "int8": {"int8", "float32"}, "nf4": {"uint4", "float32"}}
  assert types(imported) == {"bfloat16"} | kept_as[frozen_dtype]
  assert types(imported) == types(described)
  assert count(imported) == count(whole)
  assert size_in_bytes(imported) < 0.51 * size_in_bytes(whole)


@pytest.mark.parametrize("frozen_dtype", MOST_SLOW)
def test_a_frozen_weight_counts_as_the_numbers_it_stands_for(frozen_dtype):
  architecture = tiny.architecture(frozen_dtype=frozen_dtype)
  policy = define_policy(architecture, tiny.mesh(), LORA)
  plain = define_policy(tiny.architecture(), tiny.mesh(), LORA)
  kept = policy.split(policy.init(0))[1]
  trained = awake(policy)
  tokens = jnp.arange(6)[None] + 40
  inputs = (tokens, jnp.ones_like(tokens), jnp.arange(6)[None])

  def hidden(definition, parameters):
    return jax.jit(lambda one: definition.bind(one)(*inputs)[0])(parameters)

  actual = hidden(policy, join(trained, kept))
  expected = hidden(plain, join(trained, in_full(kept)))
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
  exact = hidden(plain, join(trained, plain.split(plain.init(0))[1]))
  assert 0 < np.abs(actual - exact).max() < 1


@pytest.mark.parametrize("frozen_dtype", TYPES)
def test_the_sampler_reads_the_frozen_arrays_themselves(frozen_dtype):
  architecture = tiny.architecture(frozen_dtype=frozen_dtype, compute_dtype="bfloat16")
  policy = define_policy(architecture, tiny.mesh(), LORA)
  parameters = policy.init(0)
  form = decoding_form(policy, tiny.mesh(), gather=False)
  assert not form.changes
  assert form(parameters).parameters is parameters


def test_without_adapters_nothing_is_frozen():
  architecture = tiny.architecture(frozen_dtype="nf4")
  for definition in (
    define_policy(architecture, tiny.mesh()),
    define_reward_model(architecture, "last", tiny.mesh()),
  ):
    assert types(definition.abstract) == {"float32"}


def test_a_step_beside_nf4_learns_and_holds_no_layers_in_full():
  """Without recomputation, where a backward pass would keep whatever it reads."""
  architecture = tiny.architecture(frozen_dtype="nf4", remat="none")
  definition = define_policy(architecture, tiny.mesh(), LORA)
  trained, kept = definition.split(definition.init(0))
  before = jax.tree.map(np.asarray, kept)
  optimizer = make_optimizer(TRAINING, 10)
  update = make_policy_update(
    definition, optimizer, CONFIG.policy.loss, tiny.mesh(), accumulation=2
  )
  state, losses = init_state(definition, optimizer, trained), []
  for _ in range(4):
    state, metrics = update(state, batches.policy_batch(), kept, tiny.NO_KEY)
    losses.append(float(metrics["loss"]))
  assert losses[-1] < losses[0]
  jax.tree.map(np.testing.assert_array_equal, kept, before)
  text = lower_update(update, definition, optimizer, batches.policy_batch()).compile().as_text()
  for module in ("query", "output", "gate", "down"):
    shape = ",".join(map(str, kept["layers"][module].shape))
    assert f"u4[{shape}]" in text
    assert f"f32[{shape}]" not in text, module
