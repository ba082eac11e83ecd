"""The denominator of every loss.

A loss is `sum over items / normalizer`. By default the normalizer is the number of items in the
batch at hand, so the loss is their mean. A step that splits a batch into micro-batches passes the
whole batch's number instead: the micro-batches' losses and gradients then add up to the whole
batch's exactly, even where they hold different numbers of items.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

Normalizer = Float[Array, ""] | float


def resolve_normalizer(count: Float[Array, ""], normalizer: Normalizer | None) -> Normalizer:
  """Returns `normalizer` as given (it must be positive), or where it is None `max(count, 1)`."""
  return jnp.maximum(count, 1.0) if normalizer is None else normalizer
