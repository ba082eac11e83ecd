"""The phases that let the policy speak and the reward model judge."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped
from scipy.special import expit

from apo_jax.data.samples import Asked, SampledQuery, read_samples, write_samples
from apo_jax.evaluation.length_order import agreement, rank_correlation
from apo_jax.evaluation.text import repetition
from apo_jax.logs import files
from apo_jax.logs.run_directory import (
  BASELINE_SAMPLES,
  GOLDEN_SAMPLES,
  INITIAL_SAMPLES,
  POLICY_SAMPLES,
  REPLAYED_SAMPLES,
  SCORE,
  SUPERVISED_SAMPLES,
)
from apo_jax.models.definition import Parameters, join
from apo_jax.phases.replay import asked_of_policy, policy_samples, to_replay
from apo_jax.phases.responses import (
  canonical,
  draw_from,
  of_samples,
  policy_logprobs,
  read_by,
  selected,
  with_golden_logprobs,
  with_logprobs,
  with_rewards,
  with_shaped_rewards,
)
from apo_jax.phases.shaping_inputs import num_read_by_shapings, shaping_inputs
from apo_jax.run.run import Run
from apo_jax.run.seeds import derive_seed
from apo_jax.run.starts import first_policy


def sample_golden_queries(run: Run, round: int) -> None:
  """The policy's answers to the queries that have a golden response, for the reward step."""
  _sample_players(run, round, run.data.reward.golden, GOLDEN_SAMPLES)


def sample_policy_queries(run: Run, round: int) -> None:
  """The policy's answers to the queries of the policy step: its own D_Q, or golden ones."""
  _sample_players(run, round, asked_of_policy(run), POLICY_SAMPLES)


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


def sample_baselines(run: Run) -> None:
  """What the supervised start answers to the queries of the policy step, for shapings."""
  start = functools.partial(run.parameters.of, run.players.policy_after(0))
  number = run.config.sampling.baselines
  _sample_to_file(run, 0, start, asked_of_policy(run), BASELINE_SAMPLES, number)


def score_samples(run: Run, round: int) -> None:
  """Adds rewards by the round's reward model to all samples, for the policy step and the report.

  Those that the policy learns from, earlier rounds' with them, are shaped, and what its loss reads
  of them gets its reference log-probability.
  """
  directory, loss = run.directory.round(round), run.config.policy.loss
  own, again = policy_samples(run, round), to_replay(run, round)
  number, unscored = len(own), [*own, *again]
  golden: list[SampledQuery] = []
  if run.config.reward.reads_round_samples:
    golden = read_samples(directory / GOLDEN_SAMPLES, run.data.reward.golden)
  reward_model, reference = run.players.reward_after(round), run.players.reference(round)
  policies = 2 if loss.reads_earlier_policy else 1
  total = policies * _num_samples(unscored) + len(unscored) * loss.reads_golden
  total += sum(len(query.samples) + len(query.asked.responses) for query in (*unscored, *golden))
  total += num_read_by_shapings(run, round, len(unscored), _num_samples(unscored))
  with run.logs.progress.phase(f"round {round} scores", total, unit="scores") as progress:
    scored = with_rewards(run, unscored, reward_model, progress)
    if golden:
      golden = with_rewards(run, golden, reward_model, progress)
    beside, said = shaping_inputs(run, round, scored, reward_model, progress)
    scored = with_shaped_rewards(scored, run.config.policy.shapings, **beside._asdict())
    allowed = selected(run.config, round, scored)
    read = read_by(loss, scored, allowed)
    progress.advance(policies * int(np.sum(~read)))
    logprobs = policy_logprobs(run, scored, reference, progress, read)
    scored = with_logprobs(scored, "reference_logprob", logprobs, read)
    if loss.reads_golden:
      scored = with_golden_logprobs(run, scored, reference, progress)
    if loss.reads_earlier_policy:
      earlier = run.players.earlier_reference(round)
      logprobs = policy_logprobs(run, scored, earlier, progress, read)
      scored = with_logprobs(scored, "earlier_logprob", logprobs, read)
  _write(run, directory / POLICY_SAMPLES, scored[:number])
  if again:
    _write(run, directory / REPLAYED_SAMPLES, scored[number:])
  if golden:
    _write(run, directory / GOLDEN_SAMPLES, golden)
  summary = describe_samples(run, scored[:number], "sample")
  summary |= _best_reward(scored[:number], allowed[:number]) | said
  summary["read_samples"] = float(np.mean(read[:number]))
  if golden:
    summary |= describe_samples(run, golden, "golden_sample") | describe_golden(golden)
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
  run: Run,
  round: int,
  parameters: Callable[[], Parameters],
  asked: Sequence[Asked],
  name: str,
  num_samples: int | None = None,
) -> None:
  """Draws as in training, `num_samples` a query where it is given, and writes what was drawn."""
  title = f"round {round} {name.removesuffix('.jsonl').replace('_', ' ')}"
  config = run.config.sampling.training
  if num_samples is not None:
    config = dataclasses.replace(config, num_samples=num_samples)
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


def _num_samples(sampled: Sequence[SampledQuery]) -> int:
  return sum(len(query.samples) for query in sampled)


def _best_reward(
  sampled: Sequence[SampledQuery], allowed: Bool[np.ndarray, "Q S"]
) -> dict[str, float]:
  """The mean reward of each query's best sample, of those that the policy may learn from."""
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
