"""What a policy answers, and what reward models and policies say of the answers."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from apo_jax.config.schema import SamplerConfig
from apo_jax.data.records import Demonstration, Query
from apo_jax.data.samples import Sample, SampledQuery
from apo_jax.logs.progress import PhaseProgress
from apo_jax.run import seeds
from apo_jax.run.players import Player
from apo_jax.run.run import Run


def draw(
  run: Run,
  player: Player,
  records: Sequence[Query | Demonstration],
  config: SamplerConfig,
  purpose: Sequence[str | int],
  progress: PhaseProgress,
) -> list[SampledQuery]:
  """Samples of a policy for every record; golden responses and utilities are filled in.

  `purpose` names what the samples are for; it and a record's query_id decide its random key.
  """
  queries = run.codec.encode_queries([record.query for record in records])
  keys = _keys(run.config.seed, purpose, records)
  responses = run.inference.sampler(
    run.parameters.of(player), queries, keys, config, progress.advance
  )
  utility = run.data.utility

  def judged(query: str, text: str | None) -> float | None:
    return None if utility is None or text is None else utility(query, text)

  sampled = []
  for record, drawn in zip(records, responses, strict=True):
    texts = [run.codec.decode(one.response.tokens) for one in drawn]
    samples = tuple(
      Sample(
        text=text,
        tokens=tuple(one.response.tokens),
        finished=one.response.finished,
        logprob=one.logprob,
        utility=judged(record.query, text),
      )
      for text, one in zip(texts, drawn, strict=True)
    )
    golden = getattr(record, "response", None)
    sampled.append(
      SampledQuery(
        query_id=record.query_id,
        query=record.query,
        samples=samples,
        golden=golden,
        golden_utility=judged(record.query, golden),
      )
    )
  return sampled


def with_rewards(
  run: Run, sampled: Sequence[SampledQuery], reward_model: Player, progress: PhaseProgress
) -> list[SampledQuery]:
  """The same samples with rewards, and golden responses with theirs."""
  queries = run.codec.encode_queries([query.query for query in sampled])
  golden = run.codec.encode_responses([query.golden or "" for query in sampled])
  sequences = []
  for query, ids, golden_response in zip(sampled, queries, golden, strict=True):
    sequences += [(ids, sample.response) for sample in query.samples]
    if query.golden is not None:
      sequences.append((ids, golden_response))
  scores = run.inference.reward_scorer(run.parameters.of(reward_model), sequences, progress.advance)
  rewards = iter(scores.tolist())

  def rated(query: SampledQuery) -> SampledQuery:
    samples = tuple(dataclasses.replace(sample, reward=next(rewards)) for sample in query.samples)
    golden_reward = None if query.golden is None else next(rewards)
    return dataclasses.replace(query, samples=samples, golden_reward=golden_reward)

  return [rated(query) for query in sampled]


def policy_logprobs(
  run: Run, sampled: Sequence[SampledQuery], player: Player, progress: PhaseProgress
) -> np.ndarray:
  """Float32: log pi(y|x) of every sample under a policy, in the samples' order."""
  queries = run.codec.encode_queries([query.query for query in sampled])
  sequences = [
    (ids, sample.response)
    for query, ids in zip(sampled, queries, strict=True)
    for sample in query.samples
  ]
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
  seed: int, purpose: Sequence[str | int], records: Sequence[Query | Demonstration]
) -> np.ndarray:
  """A key a record, UInt32[records, 2], from its query_id and how often that has come before."""
  seen: collections.Counter[str] = collections.Counter()
  keys = np.zeros((len(records), 2), np.uint32)
  for index, record in enumerate(records):
    keys[index] = seeds.derive_key(seed, *purpose, record.query_id, seen[record.query_id])
    seen[record.query_id] += 1
  return keys
