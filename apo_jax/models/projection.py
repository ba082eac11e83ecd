"""The product that every layer's projection is, of a weight or of an adapter."""

import math

from jaxtyping import Array, Float


def project(x: Float[Array, "B T *I"], weight: Float[Array, "..."]) -> Float[Array, "B T *O"]:
  """The product of `x` [B, T, *I] and `weight` [*I, *O].

  As a product of two matrices, which every compiler multiplies as they lie. For a product over
  several axes XLA on CPUs would transpose copies in the backward pass (docs/cpu.md).
  """
  inputs = x.shape[2:]
  product = x.reshape(-1, math.prod(inputs)) @ weight.reshape(math.prod(inputs), -1)
  return product.reshape(*x.shape[:2], *weight.shape[len(inputs) :])
