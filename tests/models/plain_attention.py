"""Attention as its equation has it, all logits at once: what faster ways are compared with."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.models.architecture import Architecture
from apo_jax.models.attention import soft_cap


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
