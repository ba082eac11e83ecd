"""What every part of `models` calls parameters."""

from typing import Any

import jax

# Arrays by name, nested as the modules are; or their shapes, or their shardings.
Parameters = dict[str, Any]


def size_in_bytes(parameters: Parameters) -> float:
  """Bytes of all arrays, or of what they are described as; half ones for those of 4 bits."""
  leaves = jax.tree.leaves(parameters)
  return sum(leaf.size * jax.dtypes.itemsize_bits(leaf.dtype) for leaf in leaves) / 8
