"""What every part of `models` calls parameters."""

import math
from typing import Any

import jax
import qwix

# Arrays by name, nested as the modules are; or their shapes, or their shardings.
Parameters = dict[str, Any]


def count(parameters: Parameters) -> int:
  """How many numbers a model has; a quantised one is one, whatever it is kept in."""
  weights = jax.tree.leaves(parameters, is_leaf=lambda leaf: isinstance(leaf, qwix.QArray))
  return sum(math.prod(weight.shape) for weight in weights)


def size_in_bytes(parameters: Parameters) -> float:
  """Bytes of all arrays, or of what they are described as; codes of 4 bits lie two in a byte."""
  leaves = jax.tree.leaves(parameters)
  return sum(leaf.size * jax.dtypes.itemsize_bits(leaf.dtype) for leaf in leaves) / 8
