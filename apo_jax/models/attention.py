"""Attention's parts: who sees whom, rotary positions, and the weighted sum."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from apo_jax.data.rows import PADDING_SEGMENT, SHARED_SEGMENT
from apo_jax.models.architecture import Architecture, Rope


def attention_mask(
  query_segments: Int[Array, "B T"],
  key_segments: Int[Array, "B S"],
  offset: Int[Array, ""] | int = 0,
) -> Bool[Array, "B T S"]:
  """Which slot sees which: itself and earlier slots of its own or of the shared segment.

  `offset` is the slot of the first row of `query_segments`; keys begin at slot 0.
  """
  query_slots = offset + jnp.arange(query_segments.shape[1])
  causal = query_slots[:, None] >= jnp.arange(key_segments.shape[1])[None, :]
  keys = key_segments[:, None, :]
  same = keys == query_segments[:, :, None]
  return causal & (same | (keys == SHARED_SEGMENT)) & (keys != PADDING_SEGMENT)


def within_window(
  query_positions: Int[Array, "B T"], key_positions: Int[Array, "B S"], window: Int[Array, ""]
) -> Bool[Array, "B T S"]:
  """Which keys are fewer than `window` positions back; all of them where it is 0."""
  back = query_positions[:, :, None] - key_positions[:, None, :]
  return (window == 0) | (back < window)


def rope_frequencies(rope: Rope | None, head_dim: int) -> Float[Array, "half"]:
  """Radians a position for each pair of features, float32; zeros where there are no positions.

  Computed in float64 by NumPy: a relative error here grows with the position, and an
  accelerator's power function is far from exact.
  """
  half = head_dim // 2
  if rope is None:
    return jnp.zeros((half,), jnp.float32)
  frequencies = rope.theta ** (-np.arange(half) / half)
  if rope.scaling == "linear":
    frequencies = frequencies / rope.factor
  if rope.scaling == "llama3":
    turns = rope.original_length * frequencies / (2 * math.pi)  # over the original context
    low, high = rope.low_frequency_factor, rope.high_frequency_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    frequencies = kept * frequencies + (1 - kept) * frequencies / rope.factor
  return jnp.asarray(frequencies, jnp.float32)


def rotate(
  x: Float[Array, "B T N D"], positions: Int[Array, "B T"], frequencies: Float[Array, "half"]
) -> Float[Array, "B T N D"]:
  """Rotary position embedding (arXiv 2104.09864), pairs (i, i + D/2), computed in float32."""
  angles = positions[..., None, None].astype(jnp.float32) * frequencies
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return rotated.astype(x.dtype)


def soft_cap(x: Float[Array, "*N"], cap: float) -> Float[Array, "*N"]:
  """cap * tanh(x / cap), which keeps |x| below cap (Gemma 2, arXiv 2408.00118)."""
  return cap * jnp.tanh(x / cap)


def attend(
  queries: Float[Array, "B T N D"],
  keys: Float[Array, "B S K D"],
  values: Float[Array, "B S K D"],
  mask: Bool[Array, "B T S"],
  architecture: Architecture,
) -> Float[Array, "B T N D"]:
  """Grouped-query attention; query heads n * N/K to (n + 1) * N/K read key head n."""
  scale, cap = architecture.query_scale, architecture.attention_softcap
  if not cap:
    return jax.nn.dot_product_attention(queries, keys, values, mask=mask[:, None], scale=scale)
  batch, length, heads, head_dim = queries.shape
  kv_heads = keys.shape[2]
  grouped = queries.reshape(batch, length, kv_heads, heads // kv_heads, head_dim)
  logits = jnp.einsum("btkgd,bskd->bkgts", grouped, keys, preferred_element_type=jnp.float32)
  logits = soft_cap(logits * scale, cap)
  # A row that sees nothing is padding: finite, so that it gives no NaN.
  logits = jnp.where(mask[:, None, None], logits, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(logits, axis=-1).astype(values.dtype)
  attended = jnp.einsum("bkgts,bskd->btkgd", weights, values)
  return attended.reshape(batch, length, heads, head_dim)
