"""Windows, rotary frequencies and the soft cap, each by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.models.architecture import Rope
from apo_jax.models.attention import (
  attend,
  attend_cache,
  attend_earlier,
  attended_pairs,
  attention_mask,
  rope_frequencies,
  rope_turns,
  rotate,
  within_window,
)
from tests import tiny


@pytest.mark.parametrize(
  ("window", "seen"), [(0, [1, 1, 1, 1]), (1, [0, 0, 0, 1]), (2, [0, 0, 1, 1])]
)
def test_a_window_counts_its_own_position(window, seen):
  within = within_window(jnp.array([3, 2, 1, 0]), jnp.array(window))
  np.testing.assert_array_equal(within, np.array(seen, bool))


def test_rope_scalings():
  rope = Rope(10000.0)
  plain = rope_frequencies(rope, 8)
  np.testing.assert_allclose(plain, [1, 0.1, 0.01, 0.001], rtol=1e-6)
  linear = rope_frequencies(dataclasses.replace(rope, scaling="linear", factor=4.0), 8)
  np.testing.assert_allclose(linear, plain / 4, rtol=1e-6)
  np.testing.assert_array_equal(rope_frequencies(None, 8), np.zeros(4))


def test_llama3_keeps_short_wavelengths_and_divides_long_ones():
  original = 2 * math.pi * 20  # the four frequencies turn 20, 2, 0.2 and 0.02 times
  scaled = rope_frequencies(Rope(10000.0, "llama3", 8.0, 1.0, 4.0, round(original)), 8)
  kept = (round(original) * 0.1 / (2 * math.pi) - 1) / 3
  expected = [1, 0.1 * (kept + (1 - kept) / 8), 0.01 / 8, 0.001 / 8]
  np.testing.assert_allclose(scaled, expected, rtol=1e-6)


def test_no_positions_rotate_nothing():
  x = jax.random.normal(jax.random.key(0), (1, 3, 2, 8))
  positions = jnp.array([[5, 6, 7]])
  turns = rope_turns(positions, rope_frequencies(None, 8))
  np.testing.assert_array_equal(rotate(x, turns), x)


@pytest.mark.parametrize("length", [40, 130, 600])
@pytest.mark.parametrize("softcap", [0.0, 5.0])
def test_blocks_attend_as_whole_rows_do(length, softcap):
  """Of shared rows with padding, in one block, two, and as many as there may be."""
  architecture = dataclasses.replace(tiny.architecture(), attention_softcap=softcap)
  segments = jnp.array(np.sort(np.random.default_rng(0).integers(1, 5, (2, length)), axis=1))
  segments = segments.at[1, length - 9 :].set(0)
  shape = (2, length, architecture.kv_heads, architecture.head_dim)
  heads = (2, length, architecture.heads, architecture.head_dim)
  queries = jax.random.normal(jax.random.key(0), heads)
  keys, values = (jax.random.normal(jax.random.key(n), shape) for n in (1, 2))
  mask = attention_mask(segments)
  whole = attend(queries, keys, values, mask, architecture)
  found = attend_earlier(queries, keys, values, mask, architecture)
  read = np.asarray(segments > 0)
  np.testing.assert_allclose(found[read], whole[read], atol=1e-5)
  assert np.isfinite(found).all()


def test_blocks_leave_out_most_of_what_is_masked():
  assert attended_pairs(40) == 40**2
  assert attended_pairs(130) == 65 * 65 + 65 * 130
  assert attended_pairs(800) == 800**2 * 9 / 16


def test_a_large_soft_cap_is_none():
  architecture = tiny.architecture()
  shape = (2, 5, architecture.kv_heads, architecture.head_dim)
  heads = (2, 5, architecture.heads, architecture.head_dim)
  queries = jax.random.normal(jax.random.key(0), heads)
  keys, values = (jax.random.normal(jax.random.key(n), shape) for n in (1, 2))
  mask = jnp.broadcast_to(jnp.tril(jnp.ones((5, 5), bool)), (2, 5, 5))

  def attended(cap: float) -> np.ndarray:
    capped = dataclasses.replace(architecture, attention_softcap=cap)
    return np.asarray(attend(queries, keys, values, mask, capped))

  np.testing.assert_allclose(attended(1e4), attended(0.0), atol=1e-5)
  assert np.abs(attended(0.5) - attended(0.0)).max() > 0.01


def test_a_row_that_sees_nothing_is_finite():
  architecture = tiny.architecture(attention_softcap=5.0)
  shape = (1, 2, architecture.kv_heads, architecture.head_dim)
  queries = jnp.ones((1, 2, architecture.heads, architecture.head_dim))
  nothing = jnp.zeros((1, 2, 2), bool)
  for made in (architecture, dataclasses.replace(architecture, attention_softcap=0.0)):
    assert np.isfinite(attend(queries, jnp.ones(shape), jnp.ones(shape), nothing, made)).all()


@pytest.mark.parametrize("cap", [0.0, 0.5])
def test_a_cache_in_two_parts_is_read_as_one(cap):
  """Two responses to each of two prompts, against `attend` over the slots that each may see."""
  architecture = tiny.architecture(attention_softcap=cap)
  heads, kv_heads, head_dim = architecture.heads, architecture.kv_heads, architecture.head_dim
  batch, width, prompt_slots, slots = 2, 2, 5, 3
  random = (
    jax.random.normal(key, shape)
    for key, shape in zip(
      jax.random.split(jax.random.key(0), 5),
      [
        (batch, width, heads, head_dim),
        *[(batch, kv_heads, prompt_slots, head_dim)] * 2,
        *[(batch, width, kv_heads, slots, head_dim)] * 2,
      ],
      strict=True,
    )
  )
  queries, prompt_keys, prompt_values, keys, values = random
  prompt_mask = np.array([[[1, 1, 1, 0, 0]] * 2, [[0, 0, 1, 1, 1], [1, 0, 0, 0, 0]]], bool)
  mask = np.array([[[1, 0, 0], [1, 1, 0]], [[0, 0, 1], [0, 0, 0]]], bool)
  both = attend_cache(
    queries,
    (prompt_keys.swapaxes(-1, -2), prompt_values),
    (keys.swapaxes(-1, -2), values),
    jnp.array(prompt_mask),
    jnp.array(mask),
    architecture,
  )
  for b in range(batch):
    for w in range(width):
      seen = [np.flatnonzero(prompt_mask[b, w]), np.flatnonzero(mask[b, w])]
      pick = [
        jnp.concatenate([far[b][:, seen[0]], near[b, w][:, seen[1]]], axis=1).swapaxes(0, 1)[None]
        for far, near in ((prompt_keys, keys), (prompt_values, values))
      ]
      everything = jnp.ones((1, 1, pick[0].shape[1]), bool)
      alone = attend(queries[b : b + 1, w : w + 1], *pick, everything, architecture)
      np.testing.assert_allclose(both[b, w], alone[0, 0], atol=1e-5)
