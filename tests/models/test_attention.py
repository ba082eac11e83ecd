"""Windows, rotary frequencies and the soft cap, each by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.models.architecture import Rope
from apo_jax.models.attention import (
  attend_cache,
  rope_frequencies,
  rope_turns,
  rotate,
  within_window,
)
from tests import tiny
from tests.models.plain_attention import attend


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
  both = jax.jit(attend_cache, static_argnums=5)(
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
