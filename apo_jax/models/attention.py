"""Attention's parts: who sees whom, rotary positions, and reading a cache."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from apo_jax.models.architecture import Architecture, Rope
from apo_jax.rows.rows import PADDING_SEGMENT, SHARED_SEGMENT


def attention_mask(segment_ids: Int[Array, "B T"]) -> Bool[Array, "B T T"]:
  """Which slot sees which: itself and earlier slots of its own or of the shared segment."""
  slots = jnp.arange(segment_ids.shape[1])
  causal = slots[:, None] >= slots[None, :]
  keys = segment_ids[:, None, :]
  same = keys == segment_ids[:, :, None]
  return causal & (same | (keys == SHARED_SEGMENT)) & (keys != PADDING_SEGMENT)


def within_window(back: Int[Array, "*N"], window: Int[Array, ""]) -> Bool[Array, "*N"]:
  """Which keys are fewer than `window` positions back; all of them where it is 0."""
  return (window == 0) | (back < window)


def rope_frequencies(rope: Rope | None, features: int) -> Float[Array, "half"]:
  """Radians a position for each pair of features, float32; zeros where there are no positions.

  Computed in float64 by NumPy: a relative error here grows with the position, and an
  accelerator's power function is far from exact.

  Args:
    rope: the layer's.
    features: of a head, that turn.
  """
  half = features // 2
  if rope is None:
    return jnp.zeros((half,), jnp.float32)
  frequencies = rope.theta ** (-np.arange(half) / half)
  if rope.scaling == "linear":
    frequencies = frequencies / rope.factor
  if rope.scaling == "longrope":
    frequencies = frequencies / np.array(rope.factors)
  if rope.scaling in ("llama3", "yarn"):
    kept = (_kept_by_turns if rope.scaling == "llama3" else _kept_by_pair)(rope, frequencies)
    frequencies = kept * frequencies + (1 - kept) * frequencies / rope.factor
  return jnp.asarray(frequencies, jnp.float32)


def _kept_by_turns(rope: Rope, frequencies: Float[np.ndarray, "half"]) -> Float[np.ndarray, "half"]:
  """How much of each frequency `llama3` keeps, 0 to 1."""
  turns = rope.original_length * frequencies / (2 * math.pi)  # over the original context
  low, high = rope.low_frequency_factor, rope.high_frequency_factor
  return np.clip((turns - low) / (high - low), 0.0, 1.0)


def _kept_by_pair(rope: Rope, frequencies: Float[np.ndarray, "half"]) -> Float[np.ndarray, "half"]:
  """How much of each frequency `yarn` keeps, 0 to 1."""
  half = len(frequencies)

  def pair(turns: float) -> float:
    """The number of the pair, a fraction, that turns so often over the original context."""
    return half * math.log(rope.original_length / (turns * 2 * math.pi)) / math.log(rope.theta)

  first, last = pair(rope.high_frequency_factor), pair(rope.low_frequency_factor)
  if rope.whole_pairs:
    first, last = math.floor(first), math.ceil(last)
  # The upper limit is that of features, not of pairs, in the paper's code and all that follow it.
  first, last = max(first, 0), min(last, 2 * half - 1)
  width = last - first or 0.001
  return 1 - np.clip((np.arange(half) - first) / width, 0.0, 1.0)


def rope_turns(
  positions: Int[Array, "B T"], frequencies: Float[Array, "half"], amplitude: float = 1.0
) -> Float[Array, "2 B T half"]:
  """Cosine and sine of how far each position turns each pair of features, float32, amplified.

  Computed once for all layers and heads: beside a layer's products they would take long.
  """
  angles = positions[..., None].astype(jnp.float32) * frequencies
  turns = jnp.stack([jnp.cos(angles), jnp.sin(angles)])
  return turns if amplitude == 1.0 else turns * amplitude


def rotate(
  x: Float[Array, "B T N D"], turns: Float[Array, "2 B T half"]
) -> Float[Array, "B T N D"]:
  """Rotary position embedding (arXiv 2104.09864), computed in float32.

  The first 2 `half` features turn, in pairs (i, i + half); those behind them stay.
  """
  cos, sin = turns[:, :, :, None]
  half = turns.shape[-1]
  wide = x.astype(jnp.float32)
  first, second, rest = wide[..., :half], wide[..., half : 2 * half], wide[..., 2 * half :]
  turned = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate([*turned, rest] if rest.shape[-1] else turned, axis=-1).astype(x.dtype)


def soft_cap(x: Float[Array, "*N"], cap: float) -> Float[Array, "*N"]:
  """cap * tanh(x / cap), which keeps |x| below cap (Gemma 2, arXiv 2408.00118)."""
  return cap * jnp.tanh(x / cap)


def attend_cache(
  queries: Float[Array, "B W N D"],
  prompt: tuple[Float[Array, "B K D P"], Float[Array, "B K P D"]],
  responses: tuple[Float[Array, "B W K D M"], Float[Array, "B W K M D"]],
  prompt_mask: Bool[Array, "B W P"],
  response_mask: Bool[Array, "B W M"],
  architecture: Architecture,
) -> Float[Array, "B W N D"]:
  """The newest token of W responses a prompt reads the prompt and its own response.

  Keys and values lie as `Cache` says.
  """
  batch, width, heads, head_dim = queries.shape
  kv_heads, slots = prompt[1].shape[1:3]
  grouped = queries.reshape(batch, width, kv_heads, heads // kv_heads, head_dim)
  product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  far = product("bknd,bkdp->bknp", _by_prompt(grouped), prompt[0])
  near = product("bwkgd,bwkdm->bwkgm", grouped, responses[0])
  logits = jnp.concatenate([_by_response(far, width), near], axis=-1) * architecture.query_scale
  if architecture.attention_softcap:
    logits = soft_cap(logits, architecture.attention_softcap)
  mask = jnp.concatenate([prompt_mask, response_mask], axis=-1)[:, :, None, None]
  # A row that sees nothing is over: finite, so that it gives no NaN.
  logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(logits, axis=-1).astype(queries.dtype)
  far = product("bknp,bkpd->bknd", _by_prompt(weights[..., :slots]), prompt[1])
  near = product("bwkgm,bwkmd->bwkgd", weights[..., slots:], responses[1])
  return (_by_response(far, width) + near).reshape(queries.shape).astype(queries.dtype)


def _by_prompt(array: Float[Array, "B W K G _"]) -> Float[Array, "B K W*G _"]:
  """All that reads a prompt's key head side by side, as one product takes them."""
  batch, width, kv_heads, group, last = array.shape
  return array.transpose(0, 2, 1, 3, 4).reshape(batch, kv_heads, width * group, last)


def _by_response(array: Float[Array, "B K N _"], width: int) -> Float[Array, "B W K N//W _"]:
  batch, kv_heads, _, last = array.shape
  return array.reshape(batch, kv_heads, width, -1, last).transpose(0, 2, 1, 3, 4)
