"""What every loss returns: sums over a batch, which the step divides.

A step that splits a batch into micro-batches divides each one's sums by the whole batch's count:
the micro-batches' losses and gradients then add up to the whole batch's exactly, even where they
hold different numbers of items.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


def mean(total: Float[Array, ""], count: Float[Array, ""]) -> Float[Array, ""]:
  """Returns the mean over so many items, 0 where there is none, as the total is 0 then."""
  return total / jnp.maximum(count, 1.0)


class Sums(NamedTuple):
  """A loss before it is divided.

  Attributes:
    total: Float[], the sum of the loss over the items of a batch.
    count: Float[], the items; it depends on what was scored, never on the model.
    metrics: Float[] each, by name: other sums over the same items.
  """

  total: Float[Array, ""]
  count: Float[Array, ""]
  metrics: dict[str, Float[Array, ""]]

  @property
  def mean(self) -> Float[Array, ""]:
    """The loss: the mean over the items, 0 where there is none."""
    return mean(self.total, self.count)

  def named(self, name: str) -> "Sums":
    """The same, the name before each of its metrics'."""
    return self._replace(metrics={f"{name}_{key}": total for key, total in self.metrics.items()})
