"""What a row costs a model, in time: how the layout of rows is chosen (`rows.layouts`)."""

from apo_jax.models.architecture import Architecture
from apo_jax.models.attention_kernels import choose
from apo_jax.models.block_attention import attended_pairs
from apo_jax.models.model_flops import attention_flops, layer_flops

# Softmax reads and writes each pair of slots of every head: as long as so many FLOPs of products.
# Measured in float32 on a CPU, forward and backward: 200 to 1,200, the more the longer the rows.
SOFTMAX_FLOPS = 600.0


def row_flops(architecture: Architecture, length: int) -> float:
  """What a forward pass over a row takes, in FLOPs of matrix products.

  A backward pass takes twice as much. Logits are left out, of which a shared row never has more.
  """
  pairs, softmax = float(length**2), 0.0
  if choose(architecture, length) == "xla":  # fused kernels keep it out of memory
    pairs = float(attended_pairs(length))
    softmax = architecture.layers * architecture.heads * pairs * SOFTMAX_FLOPS
  return length * layer_flops(architecture) + attention_flops(architecture, pairs) + softmax
