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

  Rewards are by the testing reward model where nothing else is said. Responses to a query are equal
  where a reward model reads the same of them (`Response.key`).

  Attributes:
    number: the round's; 0 is the supervised start.
    query_ids: of the queries.
    texts: the samples of each query.
    lengths: of the samples, in tokens, without eos.
    finished: they ended by themselves, not by the limit.
    golden_lengths: of the golden responses, in tokens, without eos.
    golden_finished: they are whole, not cut.
    equals_golden: the samples that equal the golden response.
    equals_start: which sample equals which of the supervised start's.
    distinct: how many of each query's samples are different.
    canonical: the samples whose text is tokenised to the ids that were drawn.
    utilities: of the samples; None where no true utility is known.
    rewards: of the samples.
    golden_rewards: of the golden responses.
    start_rewards: of the supervised start's samples to the same queries.
    trained_rewards: of the samples, by the round's own reward model.
    trained_golden_rewards: of the golden responses, by the round's own reward model.
    logprobs: log pi(y | x) of K responses to each query under the round's policy, in nats. They are
      drawn from it without filters at temperature 1: the samples themselves where they are drawn
      like this, else others. K is 0 in round 0, whose policy is the start.
    start_logprobs: the same under the supervised start.
    preference_ids: the query ids of the preferences.
    preference_scores: the higher is preferred; below 0 marks what is no response.
    preference_rewards: of their responses.
    trained_preference_rewards: of their responses, by the round's own reward model.
    preference_lengths: of their responses, in characters.
  """

  number: int
  query_ids: Sequence[str]
  texts: Sequence[Sequence[str]]
  lengths: Int[ndarray, "Q S"]
  finished: Bool[ndarray, "Q S"]
  golden_lengths: Int[ndarray, " Q"]
  golden_finished: Bool[ndarray, " Q"]
  equals_golden: Bool[ndarray, "Q S"]
  equals_start: Bool[ndarray, "Q S S0"]
  distinct: Int[ndarray, " Q"]
  canonical: Bool[ndarray, "Q S"]
  utilities: Float[ndarray, "Q S"] | None
  rewards: Float[ndarray, "Q S"]
  golden_rewards: Float[ndarray, " Q"]
  start_rewards: Float[ndarray, "Q S0"]
  trained_rewards: Float[ndarray, "Q S"]
  trained_golden_rewards: Float[ndarray, " Q"]
  logprobs: Float[ndarray, "Q K"]
  start_logprobs: Float[ndarray, "Q K"]
  preference_ids: Sequence[str]
  preference_scores: Float[ndarray, "B R"]
  preference_rewards: Float[ndarray, "B R"]
  trained_preference_rewards: Float[ndarray, "B R"]
  preference_lengths: Float[ndarray, "B R"]


@dataclasses.dataclass(frozen=True)
class Evaluation(Choice, abc.ABC):
  """A function from a judged round to numbers by name; its fields are its settings."""

  @abc.abstractmethod
  def __call__(self, judged: JudgedRound) -> dict[str, float | Float[ndarray, " Q"]]:
    """Returns numbers by name; they stand beside the others in evaluation.json and the metrics.

    One that is an array holds a value for each query: the number is their mean, and has a standard
    error. A single float has none.
    """
