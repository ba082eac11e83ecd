"""The judgement of both players after a round, on queries neither has trained on."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from apo_jax.data.records import Preference
from apo_jax.data.samples import SampledQuery, read_samples, write_samples
from apo_jax.data.tokenised import Tokenised
from apo_jax.evaluation.judged_round import JudgedRound
from apo_jax.evaluation.standard import standard_numbers
from apo_jax.logs import files
from apo_jax.logs.progress import PhaseProgress
from apo_jax.logs.run_directory import EVALUATION, TEST_SAMPLES
from apo_jax.phases.responses import (
  draw,
  of_samples,
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
  """
  settings = run.config.evaluation
  with run.logs.progress.phase(f"round {round} evaluation", None, unit="judgements") as progress:
    sampled = _sample(run, round, progress)
    judged = _judge(run, round, sampled, progress)
  evaluation = standard_numbers(judged, calibration_bins=settings.calibration_bins)
  for further in settings.evaluations:
    evaluation |= further(judged)
  numbers = {name: value for name, value in evaluation.items() if isinstance(value, float)}
  run.logs.metrics.resume(round=round, phase="evaluation", step=0)
  run.logs.metrics.write(numbers, round=round, phase="evaluation", step=1)
  if run.logs.is_writer:
    write_samples(run.directory.round(round) / TEST_SAMPLES, sampled)
    files.write_json(run.directory.round(round) / EVALUATION, evaluation)
  run.logs.progress.round_row(evaluation)


def _sample(run: Run, round: int, progress: PhaseProgress) -> list[SampledQuery]:
  """The policy's answers to test queries, judged; the reference is the supervised start."""
  asked = run.data.test.golden[: run.config.evaluation.num_queries]
  sampler = run.config.sampling.evaluation
  sampled = draw(run, run.players.policy_after(round), asked, sampler, ("test",), progress)
  sampled = with_rewards(run, sampled, run.players.testing_reward, progress)
  every = np.ones((len(sampled), sampler.num_samples), bool)
  logprobs = policy_logprobs(run, sampled, run.players.policy_after(0), progress, every)
  return with_reference_logprobs(sampled, logprobs, every)


def _judge(
  run: Run, round: int, sampled: list[SampledQuery], progress: PhaseProgress
) -> JudgedRound:
  """What the run's models say of the samples, and of unseen preferences."""
  players, start = run.players, sampled
  start_logprobs = of_samples(sampled, "reference_logprob")
  logprobs = start_logprobs
  if round:
    policy, every = players.policy_after(round), np.ones(start_logprobs.shape, bool)
    logprobs = policy_logprobs(run, sampled, policy, progress, every)
    asked = [query.asked for query in sampled]
    start = read_samples(run.directory.round(0) / TEST_SAMPLES, asked)
  preferences = run.data.test.preferences[: run.config.evaluation.num_queries]
  reward_model = players.reward_after(round)
  trained_preference_rewards = _preference_rewards(run, preferences, reward_model, progress)
  preference_rewards = _preference_rewards(run, preferences, players.testing_reward, progress)
  trained = with_rewards(run, sampled, reward_model, progress)
  knows_utility = run.data.utility is not None
  return JudgedRound(
    number=round,
    texts=[[sample.text for sample in query.samples] for query in sampled],
    lengths=of_samples(sampled, "length"),
    finished=of_samples(sampled, "finished"),
    utilities=of_samples(sampled, "utility").astype(float) if knows_utility else None,
    rewards=of_samples(sampled, "reward"),
    golden_rewards=np.array([query.golden_reward for query in sampled]),
    start_rewards=of_samples(start, "reward"),
    trained_rewards=of_samples(trained, "reward"),
    trained_golden_rewards=np.array([query.golden_reward for query in trained]),
    logprobs=logprobs,
    start_logprobs=start_logprobs,
    preference_scores=_padded(
      [distinct_scores(one.responses, one.record.scores) for one in preferences], -1.0
    ),
    preference_rewards=preference_rewards,
    trained_preference_rewards=trained_preference_rewards,
    preference_lengths=_padded(
      [[float(len(text)) for text in one.record.responses] for one in preferences], 0.0
    ),
  )


def _preference_rewards(
  run: Run,
  preferences: Sequence[Tokenised[Preference]],
  reward_model: Player,
  progress: PhaseProgress,
) -> Float[np.ndarray, "B R"]:
  """Rewards of preferences."""
  sequences = [(one.query, response) for one in preferences for response in one.responses]
  scorer, parameters = run.inference.scorer_of(reward_model), run.parameters.of(reward_model)
  flat = iter(scorer(parameters, sequences, progress.advance).tolist())
  return _padded([[next(flat) for _ in one.responses] for one in preferences], 0.0)


def _padded(rows: Sequence[Sequence[float]], padding: float) -> Float[np.ndarray, "B R"]:
  """The rows as one array as wide as the longest."""
  array = np.full((len(rows), max(map(len, rows))), padding)
  for row, values in zip(array, rows, strict=True):
    row[: len(values)] = values
  return array
