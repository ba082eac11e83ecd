"""How the terms of the min player's loss are weighed against each other."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Array, Float

from apo_jax.objectives.choice import Choice


@dataclasses.dataclass(frozen=True)
class Weighting(Choice):
  """A rule for the coefficients of the terms; its fields are hyper-parameters.

  Terms are "preference" and "golden"; where subsets of preferences are told apart, one for each of
  them (`subsets.term_of`) in the place of "preference".

  Attributes:
    needs_head_gradients: it reads the gradients of the terms by the reward head, which takes the
      head's inputs of a whole batch.
  """

  needs_head_gradients: ClassVar[bool] = False

  def weights(
    self,
    gradients: Mapping[str, Float[Array, "D"]],
    means: Mapping[str, Float[Array, ""]],
    counts: Mapping[str, Float[Array, ""]],
  ) -> dict[str, Float[Array, ""]] | None:
    """Returns the coefficients by term; by default None, which leaves those of `APO`.

    Args:
      gradients: of each term's mean over the batch, by the reward head's weights.
      means: the terms.
      counts: the pairs that they are means over.
    """
    del gradients, means, counts
    return None


@dataclasses.dataclass(frozen=True)
class FixedWeights(Weighting):
  """The coefficients of `APO`, in every update the same."""

  name: ClassVar[str] = "fixed"
