"""Log-probabilities in chunks: the same numbers and gradients, without the memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.models.architecture import LayerKind
from apo_jax.models.definition import define_policy
from apo_jax.models.logprobs import sequence_logprobs, token_logprobs
from apo_jax.rows.rows import Rows, flatten
from tests import batches, tiny

ROWS = Rows(*map(jnp.asarray, flatten(batches.policy_batch().rows)))


def chunked(slots: int):
  """The tiny policy, reading so many slots of every row at a time."""
  at_once = slots * ROWS.tokens.shape[0] * tiny.architecture().vocab_rows
  return define_policy(tiny.architecture(logits_at_once=at_once), tiny.mesh())


def values_and_gradients(definition):
  parameters = tiny.policy()[1]

  def loss(parameters):
    values = sequence_logprobs(definition.bind(parameters), ROWS)
    return jnp.sum(jnp.sin(values)), values

  (_, values), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(parameters)
  return values, gradients


@pytest.mark.parametrize("slots", [1, 4, 7])
def test_chunks_change_no_number_and_no_gradient(slots):
  expected, expected_gradients = values_and_gradients(tiny.policy()[0])
  values, gradients = values_and_gradients(chunked(slots))
  np.testing.assert_allclose(values, expected, rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4),
    gradients,
    expected_gradients,
  )


@pytest.mark.parametrize("slots", [100, 1])
def test_each_token_has_its_log_probability_in_its_slot(slots):
  definition, parameters = chunked(slots), tiny.policy()[1]
  policy = definition.bind(parameters)
  hidden, _ = policy(*ROWS[:3])
  found = np.asarray(token_logprobs(policy, hidden, ROWS.tokens, ROWS.response_mask))
  distribution = np.asarray(jax.nn.log_softmax(policy.logits(hidden), axis=-1))
  mask = np.asarray(ROWS.response_mask)
  for row, slot in zip(*np.nonzero(mask), strict=True):
    expected = distribution[row, slot - 1, ROWS.tokens[row, slot]]
    np.testing.assert_allclose(found[row, slot], expected, rtol=1e-5, atol=1e-6)
  assert not np.any(found[~mask])


def temporaries(vocab_size: int) -> int:
  """Bytes that a gradient needs beside its arguments and results, by the compiler's account."""
  (kind,) = set(tiny.architecture().kinds)
  architecture = tiny.architecture(vocab_size=vocab_size, kinds=(LayerKind(kind.rope),))
  # The embedding is frozen: its gradient is as large as it is, whatever computes the loss.
  definition = define_policy(dataclasses.replace(architecture, tied_embeddings=False), tiny.mesh())
  rows = Rows(*(jax.ShapeDtypeStruct((16, 256), x.dtype) for x in ROWS))

  def loss(layers, parameters, rows):
    return jnp.sum(sequence_logprobs(definition.bind(parameters | {"layers": layers}), rows))

  compiled = (
    jax.jit(jax.grad(loss))
    .lower(definition.abstract["layers"], definition.abstract, rows)
    .compile()
  )
  return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_does_not_grow_with_the_vocabulary():
  small, large = temporaries(32_000), temporaries(256_000)
  # All logits would be 16 * 256 * 256,000 * 4 bytes = 4.2 GB, and as much again backward.
  assert large < 1.1 * small
  assert large < 0.7e9
