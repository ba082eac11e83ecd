"""The product that every layer's projection is, of a weight or of an adapter."""

import math

from jaxtyping import Array, Float


def project(x: Float[Array, "B T *I"], weight: Float[Array, "..."]) -> Float[Array, "B T *O"]:
  """The product of `x` [B, T, *I] and `weight` [*I, *O].

  Written as a product of two matrices: of more axes, the compiler for CPUs makes transposed copies
  for the weight's gradient, which take longer than the product.
  """
  inputs = x.shape[2:]
  product = x.reshape(-1, math.prod(inputs)) @ weight.reshape(math.prod(inputs), -1)
  return product.reshape(*x.shape[:2], *weight.shape[len(inputs) :])
