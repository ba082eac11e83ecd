"""Attention block by block, forwards and backwards, against its equation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.models.attention import attention_mask
from apo_jax.models.block_attention import attend_earlier, attended_pairs
from tests import tiny
from tests.models.plain_attention import attend


def random_inputs(architecture, batch, length):
  """Queries, keys, values, and a gradient of what is attended."""
  heads = (batch, length, architecture.heads, architecture.head_dim)
  kv_heads = (batch, length, architecture.kv_heads, architecture.head_dim)
  keys = jax.random.split(jax.random.key(0), 4)
  shapes = (heads, kv_heads, kv_heads, heads)
  return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


@functools.partial(jax.jit, static_argnums=(0, 2))
def with_gradients(function, mask, architecture, queries, keys, values, gradient):
  attended, pull_back = jax.vjp(
    lambda *inputs: function(*inputs, mask, architecture), queries, keys, values
  )
  return attended, *pull_back(gradient)


@pytest.mark.parametrize("length", [40, 130, 600])
@pytest.mark.parametrize("softcap", [0.0, 5.0])
def test_blocks_attend_as_whole_rows_do(length, softcap):
  """Of shared rows with padding, in one block, two, and as many as there may be."""
  architecture = tiny.architecture(attention_softcap=softcap, query_scale=0.7)
  segments = jnp.array(np.sort(np.random.default_rng(0).integers(1, 5, (2, length)), axis=1))
  segments = segments.at[1, length - 9 :].set(0)
  *inputs, gradient = random_inputs(architecture, 2, length)
  mask = attention_mask(segments)
  # No gradient comes from what is attended at padding.
  gradient = jnp.where((segments > 0)[..., None, None], gradient, 0.0)
  found = with_gradients(attend_earlier, mask, architecture, *inputs, gradient)
  whole = with_gradients(attend, mask, architecture, *inputs, gradient)
  read = np.asarray(segments > 0)
  np.testing.assert_allclose(found[0][read], whole[0][read], atol=1e-5)
  for ours, theirs in zip(found[1:], whole[1:], strict=True):
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_what_sees_nothing_is_zero_and_has_no_gradient():
  for softcap in (0.0, 5.0):
    architecture = tiny.architecture(attention_softcap=softcap)
    inputs = random_inputs(architecture, 1, 3)
    nothing = jnp.zeros((1, 3, 3), bool)
    for array in with_gradients(attend_earlier, nothing, architecture, *inputs):
      np.testing.assert_array_equal(array, 0.0)


def test_sixteen_bits_are_kept_outside_and_left_inside():
  """Types stay; errors are those of rounding inputs and outputs, as of the plain products."""
  architecture = tiny.architecture()
  mask = attention_mask(jnp.full((2, 150), 2))
  exact = random_inputs(architecture, 2, 150)
  rounded = [array.astype(jnp.bfloat16) for array in exact]
  found = with_gradients(attend_earlier, mask, architecture, *rounded)
  truth = with_gradients(attend, mask, architecture, *(a.astype(jnp.float32) for a in rounded))
  for ours, theirs in zip(found, truth, strict=True):
    assert ours.dtype == jnp.bfloat16
    error = jnp.linalg.norm(ours.astype(jnp.float32) - theirs) / jnp.linalg.norm(theirs)
    assert error < 0.01


def test_a_large_soft_cap_is_none():
  architecture = tiny.architecture()
  *inputs, _ = random_inputs(architecture, 2, 5)
  mask = jnp.broadcast_to(jnp.tril(jnp.ones((5, 5), bool)), (2, 5, 5))

  def attended(cap: float) -> np.ndarray:
    capped = dataclasses.replace(architecture, attention_softcap=cap)
    return np.asarray(jax.jit(attend_earlier, static_argnums=4)(*inputs, mask, capped))

  np.testing.assert_allclose(attended(1e4), attended(0.0), atol=1e-5)
  assert np.abs(attended(0.5) - attended(0.0)).max() > 0.01


def test_blocks_leave_out_most_of_what_is_masked():
  assert attended_pairs(40) == 40**2
  assert attended_pairs(130) == 65 * 65 + 65 * 130
  assert attended_pairs(800) == 800**2 * 9 / 16
