"""What a policy answers, and what reward models and policies say of the answers."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt32

from apo_jax.config.schema import SamplerConfig
from apo_jax.data.records import Demonstration
from apo_jax.data.samples import Asked, Sample, SampledQuery
from apo_jax.inference.sampler import SampledResponse
from apo_jax.logs.progress import PhaseProgress
from apo_jax.run import seeds
from apo_jax.run.players import Player
from apo_jax.run.run import Run


def draw(
  run: Run,
  player: Player,
  asked: Sequence[Asked],
  config: SamplerConfig,
  purpose: Sequence[str | int],
  progress: PhaseProgress,
) -> list[SampledQuery]:
  """Samples of a policy for every query, with their utilities and those of golden responses.

  `purpose` names what the samples are for; it and a query's query_id decide its random key.
  """
  keys = _keys(run.config.seed, purpose, [one.record.query_id for one in asked])
  queries, parameters = [one.query for one in asked], run.parameters.of(player)
  drawn = run.inference.sampler(parameters, queries, keys, config, progress.advance)
  return [_sampled(run, one, responses) for one, responses in zip(asked, drawn, strict=True)]


def _sampled(run: Run, asked: Asked, responses: Sequence[SampledResponse]) -> SampledQuery:
  record, utility = asked.record, run.data.utility

  def judged(text: str) -> float | None:
    return None if utility is None else utility(record.query, text)

  def described(one: SampledResponse) -> Sample:
    text = run.codec.decode(one.response.tokens)
    tokens, finished = tuple(one.response.tokens), one.response.finished
    return Sample(text, tokens, finished, one.logprob, utility=judged(text))

  golden_utility = judged(record.response) if isinstance(record, Demonstration) else None
  samples = tuple(described(one) for one in responses)
  return SampledQuery(asked, samples, golden_utility=golden_utility)


def with_rewards(
  run: Run, sampled: Sequence[SampledQuery], reward_model: Player, progress: PhaseProgress
) -> list[SampledQuery]:
  """The same samples with rewards, and golden responses with theirs."""
  sequences = [
    (query.asked.query, response)
    for query in sampled
    for response in (*query.responses, *query.asked.responses)
  ]
  scorer, parameters = run.inference.reward_scorer, run.parameters.of(reward_model)
  rewards = iter(scorer(parameters, sequences, progress.advance).tolist())

  def rated(query: SampledQuery) -> SampledQuery:
    samples = tuple(dataclasses.replace(sample, reward=next(rewards)) for sample in query.samples)
    golden_reward = next(rewards) if query.asked.responses else None
    return dataclasses.replace(query, samples=samples, golden_reward=golden_reward)

  return [rated(query) for query in sampled]


def policy_logprobs(
  run: Run, sampled: Sequence[SampledQuery], player: Player, progress: PhaseProgress
) -> Float32[np.ndarray, "N"]:
  """log pi(y|x) of every sample under a policy, in the samples' order."""
  sequences = [(query.asked.query, one) for query in sampled for one in query.responses]
  return run.inference.logprob_scorer(run.parameters.of(player), sequences, progress.advance)


def with_reference_logprobs(
  run: Run, sampled: Sequence[SampledQuery], player: Player, progress: PhaseProgress
) -> list[SampledQuery]:
  """The same samples with their log-probabilities under `player`, a reference policy."""
  logprobs = iter(policy_logprobs(run, sampled, player, progress).tolist())

  def referred(query: SampledQuery) -> SampledQuery:
    samples = tuple(
      dataclasses.replace(sample, reference_logprob=next(logprobs)) for sample in query.samples
    )
    return dataclasses.replace(query, samples=samples)

  return [referred(query) for query in sampled]


def _keys(
  seed: int, purpose: Sequence[str | int], query_ids: Sequence[str]
) -> UInt32[np.ndarray, "N 2"]:
  """A key a query, from its query_id and how often that has come before."""
  seen: collections.Counter[str] = collections.Counter()
  keys = np.zeros((len(query_ids), 2), np.uint32)
  for row, query_id in enumerate(query_ids):
    keys[row] = seeds.derive_key(seed, *purpose, query_id, seen[query_id])
    seen[query_id] += 1
  return keys
