"""The phases that let the policy speak and the reward model judge."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from scipy.special import expit

from apo_jax.data.samples import Asked, SampledQuery, read_samples, write_samples
from apo_jax.evaluation.length_order import agreement, rank_correlation
from apo_jax.evaluation.text import repetition
from apo_jax.logs import files
from apo_jax.logs.run_directory import (
  GOLDEN_SAMPLES,
  INITIAL_SAMPLES,
  POLICY_SAMPLES,
  SCORE,
  SUPERVISED_SAMPLES,
)
from apo_jax.models.definition import Parameters, join
from apo_jax.phases.responses import (
  canonical,
  draw_from,
  learnable,
  of_samples,
  policy_logprobs,
  read_by,
  with_reference_logprobs,
  with_rewards,
  with_shaped_rewards,
)
from apo_jax.run.run import Run
from apo_jax.run.seeds import derive_seed
from apo_jax.run.starts import first_policy


def sample_golden_queries(run: Run, round: int) -> None:
  """The policy's answers to the queries that have a golden response, for the reward step."""
  _sample_players(run, round, run.data.reward.golden, GOLDEN_SAMPLES)


def sample_policy_queries(run: Run, round: int) -> None:
  """The policy's answers to its own queries D_Q, for the policy step."""
  _sample_players(run, round, run.data.policy.queries, POLICY_SAMPLES)


def sample_initial_policy(run: Run) -> None:
  """What the policy answers to golden queries before its supervised start, for every reward step.

  It is no player: nothing is trained from it, so that no checkpoint of the run holds it.
  """
  models, seed = run.models, derive_seed(run.config.seed, "init", "policy")

  def parameters() -> Parameters:
    trained = first_policy(models.origins, models.policy, seed)
    return join(trained, run.parameters.frozen(models.policy))

  run.parameters.park_idle(models.policy)
  _sample_to_file(run, 0, parameters, run.data.reward.golden, INITIAL_SAMPLES)


def sample_supervised_start(run: Run) -> None:
  """What it answers to them after it."""
  start = functools.partial(run.parameters.of, run.players.policy_after(0))
  _sample_to_file(run, 0, start, run.data.reward.golden, SUPERVISED_SAMPLES)


def score_samples(run: Run, round: int) -> None:
  """Adds rewards by the round's reward model to all samples, for the policy step and the report.

  Those of the policy's queries are shaped, and what the policy's loss reads of them gets its
  reference log-probability.
  """
  has_golden = run.config.reward.reads_round_samples
  paths = [run.directory.round(round) / POLICY_SAMPLES]
  unscored = [read_samples(paths[0], run.data.policy.queries)]
  if has_golden:
    paths.append(run.directory.round(round) / GOLDEN_SAMPLES)
    unscored.append(read_samples(paths[1], run.data.reward.golden))
  total = sum(len(query.samples) for query in unscored[0])
  for sampled in unscored:
    total += sum(len(query.samples) + len(query.asked.responses) for query in sampled)
  reward_model, reference = run.players.reward_after(round), run.players.reference(round)
  with run.logs.progress.phase(f"round {round} scores", total, unit="scores") as progress:
    scored = [with_rewards(run, sampled, reward_model, progress) for sampled in unscored]
    scored[0] = with_shaped_rewards(scored[0], run.config.policy.shapings)
    read = read_by(run.config.policy.loss, scored[0], run.config.policy.unfinished)
    progress.advance(int(np.sum(~read)))
    logprobs = policy_logprobs(run, scored[0], reference, progress, read)
    scored[0] = with_reference_logprobs(scored[0], logprobs, read)
  for path, sampled in zip(paths, scored, strict=True):
    _write(run, path, sampled)
  summary = describe_samples(run, scored[0], "sample")
  summary |= _best_reward(scored[0], run.config.policy.unfinished)
  summary["read_samples"] = float(np.mean(read))
  if has_golden:
    summary |= describe_samples(run, scored[1], "golden_sample") | describe_golden(scored[1])
  run.logs.metrics.resume(round=round, phase="score", step=0)
  run.logs.metrics.write(summary, round=round, phase="score", step=1)
  run.logs.metrics.sync()
  if run.logs.is_writer:
    result = {"reward_model": reward_model.name, "reference": reference.name, **summary}
    files.write_json(run.directory.round(round) / SCORE, result)


def _sample_players(run: Run, round: int, asked: Sequence[Asked], name: str) -> None:
  """Of the policy that the round begins with."""
  player = run.players.policy_after(round - 1)
  _sample_to_file(run, round, functools.partial(run.parameters.of, player), asked, name)


def _sample_to_file(
  run: Run, round: int, parameters: Callable[[], Parameters], asked: Sequence[Asked], name: str
) -> None:
  title = f"round {round} {name.removesuffix('.jsonl').replace('_', ' ')}"
  config = run.config.sampling.training
  with run.logs.progress.phase(title, len(asked), unit="queries") as progress:
    sampled = draw_from(run, parameters(), asked, config, (round, name), progress)
  _write(run, run.directory.round(round) / name, sampled)


def _write(run: Run, path: Path, sampled: Sequence[SampledQuery]) -> None:
  if run.logs.is_writer:
    write_samples(path, sampled)


def describe_samples(run: Run, sampled: Sequence[SampledQuery], name: str) -> dict[str, float]:
  """What samples are like: means over them, and how many of a query's differ."""
  firsts = np.array([query.is_first for query in sampled])
  rewards, lengths = of_samples(sampled, "reward"), of_samples(sampled, "length")
  correlation = rank_correlation(rewards, lengths, firsts)
  texts = of_samples(sampled, "text").reshape(-1)
  described = {
    f"{name}_reward": float(np.mean(rewards)),
    f"{name}_length": float(np.mean(lengths)),
    f"{name}_empty": float(np.mean(of_samples(sampled, "is_empty"))),
    f"{name}_unfinished": float(np.mean(~of_samples(sampled, "finished"))),
    f"{name}_repetition": float(np.mean([repetition(text) for text in texts])),
    f"{name}_distinct": float(np.mean(np.sum(firsts, axis=1))),
    f"{name}_non_canonical": 1 - float(np.mean(canonical(run.codec, sampled))),
  }
  return described | _defined({f"{name}_length_correlation": correlation})


def _best_reward(sampled: Sequence[SampledQuery], unfinished: str) -> dict[str, float]:
  """The mean reward of each query's best sample, of those that the policy may learn from."""
  allowed = learnable(sampled, unfinished)
  best = np.argmax(np.where(allowed, of_samples(sampled, "shaped_reward"), -np.inf), axis=1)
  rewards = np.take_along_axis(of_samples(sampled, "reward"), best[:, None], axis=1)
  known = rewards[allowed.any(axis=1)]
  return {"best_reward": float(np.mean(known))} if known.size else {}


def describe_golden(sampled: Sequence[SampledQuery]) -> dict[str, float]:
  """What golden responses are like, beside samples to the same queries."""
  twins = np.array([query.is_twin for query in sampled])
  rewards = np.array([query.golden_reward for query in sampled])
  lengths = np.array([len(query.golden.tokens) for query in sampled])
  margins = (rewards[:, None] - of_samples(sampled, "reward"))[~twins]
  longer_by = (lengths[:, None] - of_samples(sampled, "length"))[~twins]
  described = {
    "golden_reward": float(np.mean(rewards)),
    "golden_length": float(np.mean(lengths)),
    "golden_unfinished": float(np.mean([not query.golden.finished for query in sampled])),
    "equals_golden": float(np.mean(twins)),
  }
  if not margins.size:
    return described  # the rest is over samples that are not the golden response
  return described | _defined(
    {
      "golden_margin": float(np.mean(margins)),
      "golden_gradient": float(np.mean(expit(-margins))),
      "golden_accuracy": _share_above_zero(margins),
      "golden_longer": _share_above_zero(longer_by),
      "golden_length_agreement": agreement(margins, longer_by),
    }
  )


def _share_above_zero(differences: Shaped[np.ndarray, " P"]) -> float:
  """Zeros count half."""
  return float(np.mean((1 + np.sign(differences)) / 2))


def _defined(numbers: dict[str, float]) -> dict[str, float]:
  """Those that are: JSON and the metrics have no nan."""
  return {name: value for name, value in numbers.items() if math.isfinite(value)}
