"""The phases that let the policy speak and the reward model judge."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apo_jax import files
from apo_jax.data.records import Demonstration, Query
from apo_jax.data.samples import SampledQuery, read_samples, write_samples
from apo_jax.responses import draw, policy_logprobs, with_rewards
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
  if run.config.reward.update == "adversarial":
    golden_path = run.round_dir(round) / "golden_samples.jsonl"
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
