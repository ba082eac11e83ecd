"""How weights are kept that stay frozen beside adapters (`config.model.frozen_dtype`).

"float32" and "bfloat16" are all frozen weights in that type. "int8" and "nf4" quantise the layers'
projections, by far most of a model, and keep the others in bfloat16. A quantised weight is qwix's
`QArray`, its codes and their scales, and stands where the weight stood:

  int8  an integer times a scale of each output, its largest magnitude / 127
  nf4   one of the 16 numbers of QLoRA (arXiv 2305.14314, appendix E) times a scale of each block of
        64 inputs to an output, its largest magnitude; the blocks of bitsandbytes, not quantised
        a second time
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import qwix
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from apo_jax.models.lora import INPUT_AXES
from apo_jax.models.parameters import Parameters

QUANTISED = ("int8", "nf4")
# Inputs that share a scale; where an axis has no whole number of them, the largest divisor of both.
_BLOCK = 64

# The largest magnitude's integer is 127; by itself qwix would put it half way between two.
_INT8_RANGE = f"absmax,{127.5 / 127}"

# A weight, or its codes and scales.
Kept = Array | qwix.QArray


def quantise(
  weight: Float[Array, "..."], frozen_dtype: str, input_axes: Sequence[int]
) -> qwix.QArray:
  """The weight's codes, shaped as it is, and their float32 scales, with as many axes.

  Args:
    weight: of one projection or, on leading axes, of several.
    frozen_dtype: "int8" or "nf4".
    input_axes: ascending, those that a product with the weight sums over.
  """
  tiled, inner, calibration = {}, set(input_axes), _INT8_RANGE
  if frozen_dtype == "nf4":
    last = input_axes[-1]
    tiled, inner, calibration = {last: math.gcd(_BLOCK, weight.shape[last])}, {last}, "absmax"
  outer = [axis for axis in range(weight.ndim) if axis not in inner]
  return qwix.quantize(
    weight.astype(jnp.float32),
    frozen_dtype,
    channelwise_axes=outer,
    tiled_axes=tiled,
    calibration_method=calibration,
  )


def in_full(weight: Kept, dtype: jax.typing.DTypeLike) -> Float[Array, "..."]:
  """The weight as products read it; a quantised one is float32 until it is rounded to `dtype`."""
  whole = qwix.dequantize(weight) if isinstance(weight, qwix.QArray) else weight
  return whole.astype(dtype)


def keep(parameters: Parameters, frozen_dtype: str) -> Parameters:
  """Frozen parameters of a model, float arrays, as they are kept."""
  return jax.tree_util.tree_map_with_path(
    lambda path, array: _keep(path, array, frozen_dtype), parameters
  )


def describe(parameters: Parameters, frozen_dtype: str) -> Parameters:
  """What `keep` makes of parameters with these shapes and shardings."""

  def describe_one(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> Any:
    kept = jax.eval_shape(lambda array: _keep(path, array, frozen_dtype), leaf)

    def place(part: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
      return jax.ShapeDtypeStruct(part.shape, part.dtype, sharding=_fitting(part, leaf.sharding))

    return jax.tree.map(place, kept)

  return jax.tree_util.tree_map_with_path(describe_one, parameters)


def _keep(path: tuple[Any, ...], array: Array, frozen_dtype: str) -> Kept:
  name = path[-1].key
  if frozen_dtype not in QUANTISED:
    return array.astype(frozen_dtype)
  if name not in INPUT_AXES:
    return array.astype(jnp.bfloat16)
  return quantise(array, frozen_dtype, range(1, 1 + INPUT_AXES[name]))  # behind the layers' axis


def _fitting(part: jax.ShapeDtypeStruct, sharding: NamedSharding) -> NamedSharding:
  """The weight's sharding for its codes or scales; an axis too short to be split stays whole."""
  mesh = sharding.mesh
  axes = (
    axis if axis is None or size % mesh.shape[axis] == 0 else None
    for axis, size in zip(sharding.spec, part.shape, strict=True)
  )
  return NamedSharding(mesh, PartitionSpec(*axes))
