"""What a run asks of its models without training them: samples, rewards, log-probabilities."""

import dataclasses

from apo_jax.config.schema import Config
from apo_jax.data.tokens import Codec
from apo_jax.inference.sampler import Sampler
from apo_jax.inference.scoring import (
  Scorer,
  make_embedding_scorer,
  make_logprob_scorer,
  make_reward_scorer,
)
from apo_jax.run.models import Models
from apo_jax.run.players import Player


@dataclasses.dataclass(frozen=True)
class Inference:
  """The sampler and the scorers of a run.

  Attributes:
    sampler: draws responses from a policy.
    reward_scorer: scores sequences with the game's reward model.
    testing_reward_scorer: the same with the judge; one scorer where they are of one model.
    logprob_scorer: log-probabilities of responses under a policy.
    embedding_scorer: what the head of the game's reward model reads of sequences.
  """

  sampler: Sampler
  reward_scorer: Scorer
  testing_reward_scorer: Scorer
  logprob_scorer: Scorer
  embedding_scorer: Scorer

  def scorer_of(self, player: Player) -> Scorer:
    """What scores sequences with a reward model."""
    return self.testing_reward_scorer if player.kind == "testing_reward" else self.reward_scorer


def make_inference(config: Config, models: Models, codec: Codec) -> Inference:
  """The sampler and the scorers that a config describes."""
  sampler = Sampler(
    models.policy,
    codec,
    models.mesh,
    buckets=config.data.query_buckets,
    batch_size=config.sampling.batch_size,
    cache_dtype=config.sampling.cache_dtype,
    gather_weights=config.sampling.gather_weights,
  )
  shape = {
    "batch_size": config.evaluation.batch_size,
    "query_length": models.query_length,
    "lengths": (*models.row_lengths, models.judged_length),
    "eos": codec.eos,
  }
  reward_scorer = testing_reward_scorer = make_reward_scorer(models.reward, models.mesh, **shape)
  if models.testing_reward is not models.reward:
    testing_reward_scorer = make_reward_scorer(models.testing_reward, models.mesh, **shape)
  return Inference(
    sampler,
    reward_scorer,
    testing_reward_scorer,
    make_logprob_scorer(models.policy, models.mesh, **shape),
    make_embedding_scorer(models.reward, models.mesh, **shape),
  )
