"""Attention over whole rows by fused kernels, which keep the logits out of memory.

splash is Pallas' block-sparse flash attention for TPUs, cudnn the flash attention of NVIDIA's
library. XLA's own products (`block_attention`) serve where they cannot.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.devices.sharding import partition
from apo_jax.models.architecture import Architecture

# Slots a side of splash's blocks: at least a TPU's lanes; the larger, the fewer passes over a row.
SPLASH_BLOCKS = (512, 256, 128)
CUDNN_HEAD_DIM = 128  # at most, on every GPU that has the kernel

# Queries [B, T, N, D], keys and values [B, T, K, D] to what is attended, [B, T, N, D].
Kernel = Callable[[Array, Array, Array], Array]


def choose(architecture: Architecture, length: int) -> Literal["xla", "cudnn", "splash"]:
  """What attends over rows of `length` slots: `architecture.attention`, or "xla" where it cannot.

  A window that is shorter than the rows is left to XLA: it differs between layers, which are one
  compiled body. splash needs rows of at least one block. cudnn needs 16 bits, no soft cap, and
  heads of at most 128 features and a multiple of 8. Rows are padded to what else a kernel asks of
  lengths: a whole number of blocks, an even number.
  """
  chosen = architecture.attention
  if any(0 < kind.window < length for kind in architecture.kinds):
    return "xla"
  if chosen == "splash" and length >= SPLASH_BLOCKS[-1]:
    return "splash"
  fits_cudnn = (
    architecture.compute_dtype == "bfloat16"
    and not architecture.attention_softcap
    and architecture.head_dim % 8 == 0
    and architecture.head_dim <= CUDNN_HEAD_DIM
  )
  return "cudnn" if chosen == "cudnn" and fits_cudnn else "xla"


def make_kernel(
  architecture: Architecture, mask: Bool[Array, "B T T"], *, separate: bool
) -> Kernel | None:
  """The kernel for rows with this mask (`attention_mask`), or None where XLA attends.

  With `separate` every row is a query, at most one response to it, then padding: plain causal
  attention then reads the same wherever a token is, and the mask is not looked at. What padding
  reads means nothing, here as there, but is finite.
  """
  chosen = choose(architecture, mask.shape[1])
  if chosen == "splash":
    return _over_mesh(splash(architecture, mask.shape[1]), None if separate else mask)
  if chosen == "cudnn":
    return cudnn(architecture, None if separate else mask)
  return None


def cudnn(architecture: Architecture, mask: Bool[Array, "B T T"] | None) -> Kernel:
  """cuDNN's kernel; without a mask, causal."""

  def attend(
    queries: Float[Array, "B T N D"],
    keys: Float[Array, "B T K D"],
    values: Float[Array, "B T K D"],
  ) -> Float[Array, "B T N D"]:
    length = queries.shape[1]
    slots = (0, length % 2)
    whole = (jnp.pad(one, [(0, 0), slots, (0, 0), (0, 0)]) for one in (queries, keys, values))
    padded = None if mask is None else jnp.pad(mask, [(0, 0), slots, slots])[:, None]
    attended = jax.nn.dot_product_attention(
      *whole,
      mask=padded,
      is_causal=mask is None,
      scale=architecture.query_scale,
      implementation="cudnn",
    )
    return attended[:, :length]

  return attend


def splash(
  architecture: Architecture, length: int, *, interpret: bool = False
) -> Callable[[Array, Array, Array, Array | None], Array]:
  """splash over one device's rows: queries, keys, values and the mask; None is causal.

  `interpret` runs it as plain JAX, for devices that are no TPUs.
  """
  # Imported late: it takes a second, for which GPUs and CPUs have no use.
  from jax.experimental.pallas.ops.tpu import splash_attention as library

  padding = -length % SPLASH_BLOCKS[-1]
  block = next(size for size in SPLASH_BLOCKS if (length + padding) % size == 0)
  names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute", "q_dq", "kv_dq")
  sizes = library.BlockSizes(**{f"block_{name}": block for name in names})

  def make(mask: Any) -> Any:
    return library.make_splash_mha(
      mask,
      block_sizes=sizes,
      head_shards=1,
      q_seq_shards=1,
      attn_logits_soft_cap=architecture.attention_softcap or None,
      interpret=interpret,
    )

  def heads_first(array: Float[Array, "B T N D"]) -> Float[Array, "B N S D"]:
    return jnp.pad(array.swapaxes(1, 2), [(0, 0), (0, 0), (0, padding), (0, 0)])

  def attend(
    queries: Float[Array, "B T N D"],
    keys: Float[Array, "B T K D"],
    values: Float[Array, "B T K D"],
    mask: Bool[Array, "B T T"] | None,
  ) -> Float[Array, "B T N D"]:
    scaled = queries * jnp.asarray(architecture.query_scale, queries.dtype)
    whole = map(heads_first, (scaled, keys, values))
    if mask is None:
      heads, slots = queries.shape[2], length + padding
      causal = library.MultiHeadMask([library.CausalMask((slots, slots))] * heads)
      attended = jax.vmap(make(causal))(*whole)
    else:
      mask = jnp.pad(mask, [(0, 0), (0, padding), (0, padding)])
      # Padding sees itself: of what sees nothing the kernel makes NaN.
      mask = mask | jnp.eye(length + padding, dtype=bool)

      def attend_row(mask: Array, *row: Array) -> Array:
        kernel = make(mask[None])
        # The library branches on this flag, which it has made an array; it chooses a name alone.
        kernel.fwd_mask_info = kernel.fwd_mask_info._replace(is_dynamic_mask=None)
        return kernel(*row)

      attended = jax.vmap(attend_row)(mask, *whole)
    return attended[:, :, :length].swapaxes(1, 2)

  return attend


def _over_mesh(
  attend: Callable[[Array, Array, Array, Array | None], Array], mask: Bool[Array, "B T T"] | None
) -> Kernel:
  """The kernel on every device's own rows and heads: the compiler cannot split it by itself."""
  if jax.sharding.get_abstract_mesh().empty:
    return lambda queries, keys, values: attend(queries, keys, values, mask)
  rows = partition(("batch",))
  heads, kv_heads = (partition(("batch", None, axis)) for axis in ("heads", "kv_heads"))
  split = jax.shard_map(
    attend,
    in_specs=(heads, kv_heads, kv_heads, None if mask is None else rows),
    out_specs=heads,
    check_vma=False,  # a Pallas kernel does not say what varies over the mesh
  )
  return lambda queries, keys, values: split(queries, keys, values, mask)
