"""What the judgement of a round found, and what an evaluation makes numbers of it."""

import abc
import dataclasses
from collections.abc import Sequence

from jaxtyping import Bool, Float, Int
from numpy import ndarray

from apo_jax.objectives.choice import Choice


@dataclasses.dataclass(frozen=True)
class JudgedRound:
  """A round on the test side: S samples of the policy to each of Q queries, and B preferences.

  Rewards are by the testing reward model where nothing else is said.

  Attributes:
    number: the round's; 0 is the supervised start.
    texts: the samples of each query.
    lengths: of the samples, in tokens, without eos.
    finished: they ended by themselves, not by the limit.
    utilities: of the samples; None where no true utility is known.
    rewards: of the samples.
    golden_rewards: of the golden responses.
    start_rewards: of the supervised start's samples to the same queries.
    trained_rewards: of the samples, by the round's own reward model.
    trained_golden_rewards: of the golden responses, by the round's own reward model.
    logprobs: log pi(y | x) of the samples under the round's policy, in nats.
    start_logprobs: the same under the supervised start.
    preference_scores: the higher is preferred; below 0 marks padding.
    preference_rewards: of their responses.
    trained_preference_rewards: of their responses, by the round's own reward model.
    preference_lengths: of their responses, in characters.
  """

  number: int
  texts: Sequence[Sequence[str]]
  lengths: Int[ndarray, "Q S"]
  finished: Bool[ndarray, "Q S"]
  utilities: Float[ndarray, "Q S"] | None
  rewards: Float[ndarray, "Q S"]
  golden_rewards: Float[ndarray, "Q"]
  start_rewards: Float[ndarray, "Q S"]
  trained_rewards: Float[ndarray, "Q S"]
  trained_golden_rewards: Float[ndarray, "Q"]
  logprobs: Float[ndarray, "Q S"]
  start_logprobs: Float[ndarray, "Q S"]
  preference_scores: Float[ndarray, "B R"]
  preference_rewards: Float[ndarray, "B R"]
  trained_preference_rewards: Float[ndarray, "B R"]
  preference_lengths: Float[ndarray, "B R"]


@dataclasses.dataclass(frozen=True)
class Evaluation(Choice, abc.ABC):
  """A function from a judged round to numbers by name; its fields are its settings."""

  @abc.abstractmethod
  def __call__(self, judged: JudgedRound) -> dict[str, float]:
    """Returns the numbers; they stand beside the others in evaluation.json and the metrics."""
