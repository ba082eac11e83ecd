"""The phases that let the policy speak and the reward model judge."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apo_jax.data.samples import Asked, SampledQuery, read_samples, write_samples
from apo_jax.logs import files
from apo_jax.logs.run_directory import GOLDEN_SAMPLES, POLICY_SAMPLES, SCORE
from apo_jax.phases.responses import (
  draw,
  policy_logprobs,
  read_by,
  with_reference_logprobs,
  with_rewards,
  with_shaped_rewards,
)
from apo_jax.run.run import Run


def sample_golden_queries(run: Run, round: int) -> None:
  """The policy's answers to the queries that have a golden response, for the reward step."""
  _sample_to_file(run, round, run.data.reward.golden, GOLDEN_SAMPLES)


def sample_policy_queries(run: Run, round: int) -> None:
  """The policy's answers to its own queries D_Q, for the policy step."""
  _sample_to_file(run, round, run.data.policy.queries, POLICY_SAMPLES)


def score_samples(run: Run, round: int) -> None:
  """Adds rewards by the round's reward model to all samples, for the policy step and the report.

  Those of the policy's queries are shaped, and what the policy's loss reads of them gets its
  reference log-probability.
  """
  adversarial = run.config.reward.mode == "adversarial"
  paths = [run.directory.round(round) / POLICY_SAMPLES]
  unscored = [read_samples(paths[0], run.data.policy.queries)]
  if adversarial:
    paths.append(run.directory.round(round) / GOLDEN_SAMPLES)
    unscored.append(read_samples(paths[1], run.data.reward.golden))
  total = sum(len(query.samples) for query in unscored[0])
  for sampled in unscored:
    total += sum(len(query.samples) + len(query.asked.responses) for query in sampled)
  reward_model, reference = run.players.reward_after(round), run.players.reference(round)
  with run.logs.progress.phase(f"round {round} scores", total, unit="scores") as progress:
    scored = [with_rewards(run, sampled, reward_model, progress) for sampled in unscored]
    scored[0] = with_shaped_rewards(scored[0], run.config.policy.shapings)
    read = read_by(run.config.policy.loss, scored[0])
    progress.advance(int(np.sum(~read)))
    logprobs = policy_logprobs(run, scored[0], reference, progress, read)
    scored[0] = with_reference_logprobs(scored[0], logprobs, read)
  for path, sampled in zip(paths, scored, strict=True):
    _write(run, path, sampled)
  best = [max(sample.reward for sample in query.samples) for query in scored[0]]
  summary = {"sample_reward": _mean_reward(scored[0]), "best_reward": float(np.mean(best))}
  if adversarial:
    summary["golden_reward"] = float(np.mean([query.golden_reward for query in scored[1]]))
    summary["golden_sample_reward"] = _mean_reward(scored[1])
  run.logs.metrics.resume(round=round, phase="score", step=0)
  run.logs.metrics.write(summary, round=round, phase="score", step=1)
  if run.logs.is_writer:
    result = {"reward_model": reward_model.name, "reference": reference.name, **summary}
    files.write_json(run.directory.round(round) / SCORE, result)


def _sample_to_file(run: Run, round: int, asked: Sequence[Asked], name: str) -> None:
  title = f"round {round} {name.removesuffix('.jsonl').replace('_', ' ')}"
  config = run.config.sampling.training
  player = run.players.policy_after(round - 1)
  with run.logs.progress.phase(title, len(asked), unit="queries") as progress:
    sampled = draw(run, player, asked, config, (round, name), progress)
  _write(run, run.directory.round(round) / name, sampled)


def _write(run: Run, path: Path, sampled: Sequence[SampledQuery]) -> None:
  if run.logs.is_writer:
    write_samples(path, sampled)


def _mean_reward(sampled: Sequence[SampledQuery]) -> float:
  return float(np.mean([sample.reward for query in sampled for sample in query.samples]))
