"""How much a round does: queries to sample, and calls of the steps and scorers."""

import dataclasses
import math

from apo_jax.config.schema import Config
from apo_jax.data.input import num_batches
from apo_jax.phases.evaluation import kl_sampler

# What is planned with where a size of the config is 0, which takes all there is in files.
ASSUMED_SIZE = 10_000
# Responses of a human preference, where no data says otherwise.
PREFERENCE_RESPONSES = 2


@dataclasses.dataclass(frozen=True)
class RoundWork:
  """Queries to sample, calls of the other programs, and what had to be assumed.

  `reward_scores` and `evaluation_reward_scores` are the game's reward model's; the judge's are the
  test preferences, as long as the former, and `evaluation_judge_scores`, as long as the latter.
  Every query takes the sampler's longest bucket and every sequence the longest padded length, as
  lengths are not known without data.
  """

  sampled_queries: int
  reward_updates: int
  reward_scores: int
  logprob_scores: int
  policy_updates: int
  evaluated_queries: int
  kl_queries: int
  evaluation_reward_scores: int
  judge_scores: int
  evaluation_judge_scores: int
  evaluation_logprob_scores: int
  assumptions: tuple[str, ...]


def round_work(config: Config) -> RoundWork:
  """That of a round after the first, whose evaluation also compares with the start."""
  golden, queries = config.data.num_golden, config.data.num_queries
  test = config.data.num_test
  assumptions = tuple(
    f"config.data.num_{name} is 0, all there are: {ASSUMED_SIZE:,} assumed."
    for name, size in (("golden", golden), ("queries", queries), ("test", test))
    if not size
  )
  golden, queries = golden or ASSUMED_SIZE, queries or ASSUMED_SIZE
  test = min(config.evaluation.num_queries, test or ASSUMED_SIZE)
  reward, policy = config.reward.training, config.policy.training
  samples = config.sampling.training.num_samples
  evaluation = config.sampling.evaluation
  for_kl = kl_sampler(evaluation)
  sampled = golden if config.reward.reads_round_samples else 0
  updates = num_batches(golden, reward.batch_size, reward.epochs)

  def scorer_calls(count: int) -> int:
    return math.ceil(count / config.evaluation.batch_size)

  scored = queries * samples + sampled * (samples + 1)
  judged = test * (evaluation.num_samples + 1)
  preferred = scorer_calls(test * PREFERENCE_RESPONSES)
  return RoundWork(
    sampled_queries=queries + sampled,
    reward_updates=0 if config.reward.mode == "fixed" else updates,
    reward_scores=scorer_calls(scored) + preferred,
    logprob_scores=scorer_calls(queries * config.policy.loss.most_read(samples)),
    policy_updates=num_batches(queries, policy.batch_size, policy.epochs),
    evaluated_queries=test,
    kl_queries=0 if for_kl == evaluation else test,
    evaluation_logprob_scores=2 * scorer_calls(test * for_kl.num_samples),
    evaluation_reward_scores=scorer_calls(judged),
    judge_scores=preferred,
    evaluation_judge_scores=scorer_calls(judged),
    assumptions=assumptions,
  )
