"""What a further term of the min player's loss is, beside the two of `APO`."""

import abc
import dataclasses
from typing import ClassVar, Literal

from jaxtyping import Array, Bool, Float

from apo_jax.objectives.apo import ScoredRewards
from apo_jax.objectives.choice import Choice
from apo_jax.objectives.ranges import NonNegativeFloat
from apo_jax.objectives.sums import Sums

# The two data that a reward step ranks: human preferences, and golden responses with samples.
RankedData = Literal["preferences", "golden"]


@dataclasses.dataclass(frozen=True)
class RewardTerm(Choice, abc.ABC):
  """A term of the reward step's loss; its fields are its hyper-parameters.

  What it needs beside rewards is computed where a term says so, and nowhere else.

  Attributes:
    needs_embeddings: it reads the embeddings of `ScoredRewards`.
    needs_logprobs: it reads log-probabilities: the reward model keeps a language-model head.
    coefficient: the weight of the term's mean in the loss.
  """

  needs_embeddings: ClassVar[bool] = False
  needs_logprobs: ClassVar[bool] = False
  coefficient: NonNegativeFloat = 1.0

  @abc.abstractmethod
  def __call__(self, rewards: ScoredRewards) -> Sums:
    """Returns the term's sums, unweighted; it ignores padding, in value and gradient."""

  def logprobs_read(
    self, data: RankedData, scores: Float[Array, "B R"]
  ) -> Bool[Array, "B R"] | None:
    """Returns the responses whose log-probabilities are needed, by default all; None for none.

    Of others nothing is computed where the vocabulary is read in chunks, and theirs is 0.
    """
    del data
    return scores >= 0
