"""The types of frozen weights: what is kept, who shares it, and what is computed with it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from apo_jax.config.schema import LoraConfig
from apo_jax.inference.decoding_weights import decoding_form
from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.models.hugging_face.importing import import_decoder
from tests import tiny
from tests.models.hugging_face import cases

LORA = LoraConfig(rank=2, alpha=4.0, dropout=0.0, modules=("query", "down"))


def read(tmp_path, frozen_dtype):
  """A stored checkpoint whose frozen weights are to be of this type."""
  checkpoint = cases.read(cases.write(tmp_path, "llama"))
  architecture = dataclasses.replace(checkpoint.architecture, frozen_dtype=frozen_dtype)
  return dataclasses.replace(checkpoint, architecture=architecture)


def test_frozen_weights_are_rounded_once_and_trained_ones_are_not(tmp_path):
  checkpoint = read(tmp_path, "bfloat16")
  policy = define_policy(checkpoint.architecture, tiny.mesh(), LORA)
  trained, frozen = policy.split(policy.abstract)
  assert {leaf.dtype for leaf in jax.tree.leaves(trained)} == {jnp.dtype("float32")}
  assert {leaf.dtype for leaf in jax.tree.leaves(frozen)} == {jnp.dtype("bfloat16")}
  imported = import_decoder(checkpoint, frozen, cases.FIELD)
  plain = define_policy(checkpoint.architecture, tiny.mesh())
  whole = import_decoder(checkpoint, plain.abstract, cases.FIELD)
  jax.tree.map(
    lambda ours, exact: np.testing.assert_array_equal(ours, exact.astype(jnp.bfloat16)),
    imported,
    whole,
  )


def test_without_adapters_no_type_is_changed():
  architecture = tiny.architecture(frozen_dtype="bfloat16")
  for definition in (
    define_policy(architecture, tiny.mesh()),
    define_reward_model(architecture, "last", tiny.mesh()),
  ):
    assert {leaf.dtype for leaf in jax.tree.leaves(definition.abstract)} == {jnp.dtype("float32")}


def test_the_sampler_reads_the_frozen_arrays_themselves():
  architecture = tiny.architecture(frozen_dtype="bfloat16", compute_dtype="bfloat16")
  policy = define_policy(architecture, tiny.mesh(), LORA)
  parameters = policy.init(0)
  form = decoding_form(policy, tiny.mesh(), gather=False)
  assert not form.changes
  assert form(parameters).parameters is parameters
