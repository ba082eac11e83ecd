"""The sampler's weights: the trained policy's, in fewer bits, without adapters, in one piece."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from apo_jax.config.schema import LoraConfig
from apo_jax.inference.decoding_weights import decoding_form
from apo_jax.models.definition import define_policy, merged
from tests import tiny

LORA = LoraConfig(rank=2, alpha=4.0, dropout=0.0, modules=("query", "down"))


def test_without_need_the_trained_weights_are_read():
  definition, parameters = tiny.policy()
  form = decoding_form(definition, tiny.mesh(), gather=False)
  assert not form.changes
  assert form(parameters).parameters is parameters


def test_stacks_are_the_layers_of_the_one_stack():
  definition, parameters = tiny.policy()
  form = decoding_form(definition, tiny.mesh(), gather=False)
  stacks = form(parameters).stacks
  assert len(stacks) == form.stacks == definition.architecture.layers > 1
  for number, stack in enumerate(stacks):
    for name, leaf in stack.items():
      np.testing.assert_array_equal(leaf, parameters["layers"][name][number : number + 1])
  scanned = dataclasses.replace(form, stacks=1)
  (stack,) = scanned(parameters).stacks
  assert stack is parameters["layers"]


def test_adapters_are_added_into_the_weights():
  definition = define_policy(tiny.architecture(), tiny.mesh(), LORA)
  parameters = definition.init(0)
  parameters["layers"]["lora_query_b"] += 0.5
  form = decoding_form(definition, tiny.mesh(), gather=False)
  weights = form(parameters)
  assert "layers" not in weights.parameters and len(weights.stacks) == form.stacks
  found = weights.whole()
  jax.tree.map(np.testing.assert_array_equal, found, merged(parameters, LORA))
  assert "lora_query_a" not in found["layers"]
  assert np.abs(found["layers"]["query"] - parameters["layers"]["query"]).max() > 0.1


def test_weights_come_in_the_compute_type_and_norms_stay():
  architecture = dataclasses.replace(tiny.architecture(), compute_dtype="bfloat16")
  definition = define_policy(architecture, tiny.mesh())
  parameters = definition.init(0)
  form = decoding_form(definition, tiny.mesh(), gather=False)
  found = form(parameters).whole()
  assert found["layers"]["gate"].dtype == found["embedding"].dtype == jnp.bfloat16
  assert found["layers"]["mlp_norm"].dtype == found["final_norm"].dtype == jnp.float32
  np.testing.assert_array_equal(
    found["layers"]["gate"], parameters["layers"]["gate"].astype(jnp.bfloat16)
  )
  described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), form.abstract)
  actual = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), form(parameters))
  assert described == actual
  # They give the same hidden states: the model would have cast them itself.
  tokens = jnp.arange(6)[None] + 40
  inputs = (tokens, jnp.ones_like(tokens), jnp.arange(6)[None])
  expected, _ = definition.bind(parameters)(*inputs)
  actual, _ = form.definition.bind(found)(*inputs)
  np.testing.assert_array_equal(actual, expected)
