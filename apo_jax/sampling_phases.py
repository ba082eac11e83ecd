"""The phases that let the policy speak and the reward model judge."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apo_jax import files, seeds
from apo_jax.config import SamplerConfig
from apo_jax.data.records import Demonstration, Query
from apo_jax.data.samples import Sample, SampledQuery, read_samples, write_samples
from apo_jax.run_context import RunContext


def sample_golden_queries(run: RunContext, round: int) -> None:
  """The policy's answers to the queries that have a golden response, for the reward step."""
  _sample_to_file(run, round, run.data.reward.golden, "golden_samples.jsonl")


def sample_policy_queries(run: RunContext, round: int) -> None:
  """The policy's answers to its own queries D_Q, for the policy step."""
  _sample_to_file(run, round, run.data.policy.queries, "policy_samples.jsonl")


def score_samples(run: RunContext, round: int) -> None:
  """Adds rewards by the round's reward model, and reference log-probabilities, to the samples."""
  reward_model = run.reward_after(round)
  summary: dict[str, float] = {}
  golden_path = run.round_dir(round) / "golden_samples.jsonl"
  if golden_path.exists():
    golden = with_rewards(
      run, read_samples(golden_path), reward_model, f"round {round} score golden"
    )
    summary |= {"golden_reward": _mean([query.golden_reward for query in golden])}
    summary |= {"golden_sample_reward": _mean_reward(golden)}
    _write(run, golden_path, golden)
  path = run.round_dir(round) / "policy_samples.jsonl"
  sampled = with_rewards(run, read_samples(path), reward_model, f"round {round} score samples")
  sampled = _with_reference_logprobs(run, sampled, run.reference(round), round)
  _write(run, path, sampled)
  best = [max(sample.reward for sample in query.samples) for query in sampled]
  summary |= {"sample_reward": _mean_reward(sampled), "best_reward": _mean(best)}
  run.writer.resume(round=round, phase="score", step=0)
  run.writer.write(summary, round=round, phase="score", step=1)
  if run.is_writer:
    files.write_json(run.round_dir(round) / "score.json", {"reward_model": reward_model, **summary})


def draw(
  run: RunContext,
  player: str,
  records: Sequence[Query | Demonstration],
  config: SamplerConfig,
  purpose: Sequence[str | int],
  title: str,
) -> list[SampledQuery]:
  """Samples of a policy for every record; golden responses and utilities are filled in."""
  queries = run.codec.encode_queries([record.query for record in records])
  keys = [
    seeds.derive_key(run.config.seed, *purpose, index, record.query_id)
    for index, record in enumerate(records)
  ]
  with run.progress.phase(title, len(records), unit="queries") as progress:
    responses = run.sampler(
      run.parameters(player), queries, np.stack(keys), config, progress.advance
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
  run: RunContext, sampled: Sequence[SampledQuery], reward_model: str, title: str
) -> list[SampledQuery]:
  """The same samples with rewards, and golden responses with theirs."""
  queries = run.codec.encode_queries([query.query for query in sampled])
  golden = run.codec.encode_responses([query.golden or "" for query in sampled])
  sequences = []
  for query, ids, golden_response in zip(sampled, queries, golden, strict=True):
    sequences += [(ids, sample.response) for sample in query.samples]
    if query.golden is not None:
      sequences.append((ids, golden_response))
  with run.progress.phase(title, len(sequences), unit="responses") as progress:
    scores = run.reward_scorer(run.parameters(reward_model), sequences, progress.advance)
  rewards = iter(scores.tolist())

  def rated(query: SampledQuery) -> SampledQuery:
    samples = tuple(dataclasses.replace(sample, reward=next(rewards)) for sample in query.samples)
    golden_reward = None if query.golden is None else next(rewards)
    return dataclasses.replace(query, samples=samples, golden_reward=golden_reward)

  return [rated(query) for query in sampled]


def policy_logprobs(
  run: RunContext, sampled: Sequence[SampledQuery], player: str, title: str
) -> np.ndarray:
  """Float32: log pi(y|x) of every sample under a policy, in the samples' order."""
  queries = run.codec.encode_queries([query.query for query in sampled])
  sequences = [
    (ids, sample.response)
    for query, ids in zip(sampled, queries, strict=True)
    for sample in query.samples
  ]
  with run.progress.phase(title, len(sequences), unit="responses") as progress:
    return run.logprob_scorer(run.parameters(player), sequences, progress.advance)


def _with_reference_logprobs(
  run: RunContext, sampled: Sequence[SampledQuery], player: str, round: int
) -> list[SampledQuery]:
  title = f"round {round} reference log-probabilities"
  logprobs = iter(policy_logprobs(run, sampled, player, title).tolist())
  return [
    dataclasses.replace(
      query,
      samples=tuple(
        dataclasses.replace(sample, reference_logprob=next(logprobs)) for sample in query.samples
      ),
    )
    for query in sampled
  ]


def _sample_to_file(
  run: RunContext, round: int, records: Sequence[Query | Demonstration], name: str
) -> None:
  title = f"round {round} {name.removesuffix('.jsonl').replace('_', ' ')}"
  config = run.config.sampling.training
  sampled = draw(run, run.policy_after(round - 1), records, config, (round, name), title)
  _write(run, run.round_dir(round) / name, sampled)


def _write(run: RunContext, path: Path, sampled: Sequence[SampledQuery]) -> None:
  if run.is_writer:
    write_samples(path, sampled)


def _mean(values: Sequence[float]) -> float:
  return float(np.mean(values))


def _mean_reward(sampled: Sequence[SampledQuery]) -> float:
  return _mean([sample.reward for query in sampled for sample in query.samples])
