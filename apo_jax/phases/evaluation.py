"""The judgement of both players after a round, on queries neither has trained on."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from apo_jax.data.records import Preference
from apo_jax.data.samples import SampledQuery, read_samples, write_samples
from apo_jax.data.tokenised import Tokenised
from apo_jax.evaluation.text import distinct_2, longer_wins_accuracy
from apo_jax.evaluation.win_rate import win_rate
from apo_jax.logs import files
from apo_jax.logs.progress import PhaseProgress
from apo_jax.logs.run_directory import EVALUATION, TEST_SAMPLES
from apo_jax.objectives import calibration_errors, preference_accuracy
from apo_jax.phases.responses import (
  draw,
  policy_logprobs,
  with_reference_logprobs,
  with_rewards,
)
from apo_jax.rows.rows import distinct_scores
from apo_jax.run.players import Player
from apo_jax.run.run import Run


def evaluate(run: Run, round: int) -> None:
  """Writes the round's test_samples.jsonl and evaluation.json, and a row of the table.

  The same random keys are used in every round, so that rounds differ by their policies alone.
  `kl_to_start` is the mean of log pi(y|x) - log pi_start(y|x) over the policy's own samples: an
  unbiased estimate of KL[pi || pi_start] where they are drawn at temperature 1 without filters and
  end by eos (what a stop string ended is scored as if eos stood there).
  """
  config = run.config
  asked = run.data.test.golden[: config.evaluation.num_queries]
  with run.logs.progress.phase(f"round {round} evaluation", None, unit="judgements") as progress:
    player = run.players.policy_after(round)
    sampled = draw(run, player, asked, config.sampling.evaluation, ("test",), progress)
    sampled = with_rewards(run, sampled, run.players.testing_reward, progress)
    sampled = with_reference_logprobs(run, sampled, run.players.policy_after(0), progress)
    start_logprobs = [sample.reference_logprob for query in sampled for sample in query.samples]
    logprobs = start_logprobs
    if round:
      logprobs = policy_logprobs(run, sampled, player, progress)
    reward_models = _judge_reward_models(run, round, sampled, progress)
  samples = [sample for query in sampled for sample in query.samples]
  evaluation = {
    "round": round,
    "true_utility": _mean([sample.utility for sample in samples]),
    "testing_reward": _mean([sample.reward for sample in samples]),
    "win_rate_golden": win_rate(_rewards(sampled), _golden_rewards(sampled)),
    "win_rate_start": _win_rate_against_start(run, round, sampled),
    "kl_to_start": float(np.mean(np.subtract(logprobs, start_logprobs))),
    "response_length": _mean([float(len(sample.tokens)) for sample in samples]),
    "distinct_2": distinct_2([sample.text for sample in samples]),
    **reward_models,
  }
  numbers = {name: value for name, value in evaluation.items() if isinstance(value, float)}
  run.logs.metrics.resume(round=round, phase="evaluation", step=0)
  run.logs.metrics.write(numbers, round=round, phase="evaluation", step=1)
  if run.logs.is_writer:
    write_samples(run.directory.round(round) / TEST_SAMPLES, sampled)
    files.write_json(run.directory.round(round) / EVALUATION, evaluation)
  run.logs.progress.round_row(evaluation)


def _judge_reward_models(
  run: Run, round: int, sampled: list[SampledQuery], progress: PhaseProgress
) -> dict[str, object]:
  """Accuracy and calibration on unseen preferences; the margin of golden over samples."""
  preferences = run.data.test.preferences[: run.config.evaluation.num_queries]
  reward_model = run.players.reward_after(round)
  rewards, scores = _preference_rewards(run, preferences, reward_model, progress)
  errors = calibration_errors(rewards, scores, num_bins=run.config.evaluation.calibration_bins)
  testing_rewards, _ = _preference_rewards(run, preferences, run.players.testing_reward, progress)
  judged = with_rewards(run, sampled, reward_model, progress)
  return {
    "golden_margin": float(np.mean(_golden_rewards(judged)) - np.mean(_rewards(judged))),
    "reward_accuracy": float(preference_accuracy(rewards, scores)),
    "reward_ece": float(errors["ece"]),
    "reward_ace": float(errors["ace"]),
    "reward_mce": float(errors["mce"]),
    "testing_accuracy": float(preference_accuracy(testing_rewards, scores)),
    "longer_wins_accuracy": longer_wins_accuracy([preference.record for preference in preferences]),
    "calibration": {
      "confidence": errors["confidence"],
      "accuracy": errors["accuracy"],
      "count": errors["count"].astype(int),
    },
  }


def _preference_rewards(
  run: Run,
  preferences: Sequence[Tokenised[Preference]],
  reward_model: Player,
  progress: PhaseProgress,
) -> tuple[jax.Array, jax.Array]:
  """Rewards and scores Float32[B, R] of preferences; scores of -1 are padding."""
  sequences = [(one.query, response) for one in preferences for response in one.responses]
  scorer, parameters = run.inference.reward_scorer, run.parameters.of(reward_model)
  flat = iter(scorer(parameters, sequences, progress.advance))
  widest = max(len(one.responses) for one in preferences)
  rewards = np.zeros((len(preferences), widest), np.float32)
  scores = np.full((len(preferences), widest), -1.0, np.float32)
  for row, one in enumerate(preferences):
    count = len(one.responses)
    rewards[row, :count] = [next(flat) for _ in range(count)]
    scores[row, :count] = distinct_scores(one.responses, one.record.scores)
  return jnp.asarray(rewards), jnp.asarray(scores)


def _win_rate_against_start(run: Run, round: int, sampled: list[SampledQuery]) -> float:
  if round == 0:
    return 0.5
  start = read_samples(run.directory.round(0) / TEST_SAMPLES, [query.asked for query in sampled])
  return win_rate(_rewards(sampled), _rewards(start))


def _rewards(sampled: list[SampledQuery]) -> list[float]:
  """One reward a query, the mean over its samples."""
  return [float(np.mean([sample.reward for sample in query.samples])) for query in sampled]


def _golden_rewards(sampled: list[SampledQuery]) -> list[float]:
  return [query.golden_reward for query in sampled]


def _mean(values: list[float | None]) -> float | None:
  return None if not values or values[0] is None else float(np.mean(values))
