"""The phases that let the policy speak and the reward model judge."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apo_jax.data.records import Demonstration, Query
from apo_jax.data.samples import SampledQuery, read_samples, write_samples
from apo_jax.logs import files
from apo_jax.phases.responses import draw, with_reference_logprobs, with_rewards
from apo_jax.run.context import RunContext


def sample_golden_queries(run: RunContext, round: int) -> None:
  """The policy's answers to the queries that have a golden response, for the reward step."""
  _sample_to_file(run, round, run.data.reward.golden, "golden_samples.jsonl")


def sample_policy_queries(run: RunContext, round: int) -> None:
  """The policy's answers to its own queries D_Q, for the policy step."""
  _sample_to_file(run, round, run.data.policy.queries, "policy_samples.jsonl")


def score_samples(run: RunContext, round: int) -> None:
  """Adds rewards by the round's reward model to all samples, for the policy step and the report.

  Those that the policy step trains on get their reference log-probabilities as well.
  """
  adversarial = run.config.reward.update == "adversarial"
  paths = [run.round_dir(round) / "policy_samples.jsonl"]
  if adversarial:
    paths.append(run.round_dir(round) / "golden_samples.jsonl")
  unscored = [read_samples(path) for path in paths]
  total = sum(len(query.samples) for query in unscored[0])
  for query in [query for sampled in unscored for query in sampled]:
    total += len(query.samples) + (query.golden is not None)
  reward_model, reference = run.reward_after(round), run.reference(round)
  with run.progress.phase(f"round {round} scores", total, unit="scores") as progress:
    scored = [with_rewards(run, sampled, reward_model, progress) for sampled in unscored]
    scored[0] = with_reference_logprobs(run, scored[0], reference, progress)
  for path, sampled in zip(paths, scored, strict=True):
    _write(run, path, sampled)
  best = [max(sample.reward for sample in query.samples) for query in scored[0]]
  summary = {"sample_reward": _mean_reward(scored[0]), "best_reward": float(np.mean(best))}
  if adversarial:
    summary["golden_reward"] = float(np.mean([query.golden_reward for query in scored[1]]))
    summary["golden_sample_reward"] = _mean_reward(scored[1])
  run.writer.resume(round=round, phase="score", step=0)
  run.writer.write(summary, round=round, phase="score", step=1)
  if run.is_writer:
    result = {"reward_model": reward_model, "reference": reference, **summary}
    files.write_json(run.round_dir(round) / "score.json", result)


def _sample_to_file(
  run: RunContext, round: int, records: Sequence[Query | Demonstration], name: str
) -> None:
  title = f"round {round} {name.removesuffix('.jsonl').replace('_', ' ')}"
  config = run.config.sampling.training
  player = run.policy_after(round - 1)
  with run.progress.phase(title, len(records), unit="queries") as progress:
    sampled = draw(run, player, records, config, (round, name), progress)
  _write(run, run.round_dir(round) / name, sampled)


def _write(run: RunContext, path: Path, sampled: Sequence[SampledQuery]) -> None:
  if run.is_writer:
    write_samples(path, sampled)


def _mean_reward(sampled: Sequence[SampledQuery]) -> float:
  return float(np.mean([sample.reward for query in sampled for sample in query.samples]))
