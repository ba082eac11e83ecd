"""The judgement of both players after a round, on queries neither has trained on."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import SamplerConfig
from apo_jax.data.records import Preference
from apo_jax.data.samples import SampledQuery, read_samples, write_samples
from apo_jax.data.tokenised import Tokenised
from apo_jax.evaluation.judged_round import Evaluation, JudgedRound
from apo_jax.evaluation.record import (
  evaluation_record,
  judgements_record,
  read_measured,
  with_further,
)
from apo_jax.evaluation.standard import Numbers, standard_numbers
from apo_jax.evaluation.uncertainty import Measured
from apo_jax.logs import files
from apo_jax.logs.progress import PhaseProgress
from apo_jax.logs.run_directory import EVALUATION, JUDGEMENTS, TEST_SAMPLES, RunDirectory
from apo_jax.phases.responses import (
  canonical,
  draw,
  of_samples,
  policy_logprobs,
  rewards_of,
  with_logprobs,
  with_rewards,
)
from apo_jax.rows.rows import distinct_scores
from apo_jax.run.players import Player
from apo_jax.run.run import Run


def evaluate(run: Run, round: int) -> None:
  """Writes the round's samples, judgements.json and evaluation.json, and a row of the table.

  The same random keys are used in every round, so that rounds differ by their policies alone.

  Raises:
    ConfigError: a further evaluation returns what it must not.
  """
  settings = run.config.evaluation
  with run.logs.progress.phase(f"round {round} evaluation", None, unit="judgements") as progress:
    sampled, logprobs = _sample(run, round, progress)
    sampled = with_rewards(run, sampled, run.players.testing_reward, progress)
    judged = _judge(run, round, sampled, logprobs, progress)
  numbers = standard_numbers(judged, calibration_bins=settings.calibration_bins)
  numbers, plain = with_further_evaluations(settings.evaluations, judged, numbers)
  compared = {"previous": round - 1, "start": 0} if round else {}
  others = {name: _measured(run.directory, other) for name, other in compared.items()}
  evaluation = evaluation_record(round, numbers, plain, others)
  run.logs.metrics.resume(round=round, phase="evaluation", step=0)
  scalars = {name: value for name, value in evaluation.items() if isinstance(value, float)}
  run.logs.metrics.write(scalars, round=round, phase="evaluation", step=1)
  run.logs.metrics.sync()
  if run.logs.is_writer:
    directory = run.directory.round(round)
    write_samples(directory / TEST_SAMPLES, sampled, "testing_reward")
    judgements = files.json_line(judgements_record(numbers))
    files.write_text(directory / JUDGEMENTS, judgements + "\n")
    files.write_json(directory / EVALUATION, evaluation)
  run.logs.progress.judged(evaluation)


def with_further_evaluations(
  further: Sequence[Evaluation], judged: JudgedRound, numbers: Numbers
) -> tuple[Numbers, dict[str, float]]:
  """The numbers with those of further evaluations, and the ones among these without an error.

  Raises:
    ConfigError: one returns the name of another number, or values of a wrong shape.
  """
  plain: dict[str, float] = {}
  for one in further:
    returned = one(judged)
    try:
      numbers, plain = with_further(numbers, plain, returned)
    except ValueError as error:
      named = f"config.evaluation.evaluations holds {one.name!r}"
      raise ConfigError(f"{named}, which {error}.") from error
  return numbers, plain


def _measured(directory: RunDirectory, round: int) -> tuple[Measured, Measured]:
  """The numbers of a finished round, over test queries and over test preferences."""
  place = directory.round(round)
  return read_measured(files.read_json(place / EVALUATION), files.read_json(place / JUDGEMENTS))


def _sample(
  run: Run, round: int, progress: PhaseProgress
) -> tuple[list[SampledQuery], Float[np.ndarray, "2 Q K"]]:
  """The policy's answers to test queries, and log-probabilities of unfiltered answers.

  These are log pi(y|x) under the policy and under the supervised start, of the same answers where
  these are drawn without filters, else of one more to each query. K is 0 in round 0.
  """
  asked = run.data.test.golden[: run.config.evaluation.num_queries]
  sampler, policy = run.config.sampling.evaluation, run.players.policy_after(round)
  sampled = draw(run, policy, asked, sampler, ("test",), progress)
  if not round:
    return sampled, np.zeros((2, len(asked), 0))
  plain = kl_sampler(sampler)
  own = plain == sampler
  unfiltered = sampled if own else draw(run, policy, asked, plain, ("kl",), progress)
  every = np.ones((len(asked), plain.num_samples), bool)
  logprobs = [
    policy_logprobs(run, unfiltered, player, progress, every)
    for player in (policy, run.players.policy_after(0))
  ]
  if own:
    sampled = with_logprobs(sampled, "reference_logprob", logprobs[1], every)
  return sampled, np.stack(logprobs)


def kl_sampler(sampler: SamplerConfig) -> SamplerConfig:
  """The sampler of responses that a KL is measured on, which draws from the policy as it is.

  The evaluation's own where it does so, else one that draws a response for this alone, as long and
  to the same stop strings.
  """
  off = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
  plain = dataclasses.replace(sampler, **off)
  return sampler if plain == sampler else dataclasses.replace(plain, num_samples=1)


def _judge(
  run: Run,
  round: int,
  sampled: list[SampledQuery],
  logprobs: Float[np.ndarray, "2 Q K"],
  progress: PhaseProgress,
) -> JudgedRound:
  """What the run's models say of the samples, and of unseen preferences."""
  players, start = run.players, sampled
  asked = [query.asked for query in sampled]
  if round:
    start = read_samples(run.directory.round(0) / TEST_SAMPLES, asked)
  preferences = run.data.test.preferences[: run.config.evaluation.num_queries]
  reward_model = players.reward_after(round)
  trained_preference_rewards = _preference_rewards(run, preferences, reward_model, progress)
  preference_rewards = _preference_rewards(run, preferences, players.testing_reward, progress)
  trained = with_rewards(run, sampled, reward_model, progress)
  knows_utility = run.data.utility is not None
  golden = [one.responses[0] for one in asked]
  return JudgedRound(
    number=round,
    query_ids=[one.record.query_id for one in asked],
    texts=[[sample.text for sample in query.samples] for query in sampled],
    lengths=of_samples(sampled, "length"),
    finished=of_samples(sampled, "finished"),
    golden_lengths=np.array([len(response.tokens) for response in golden]),
    golden_finished=np.array([response.finished for response in golden]),
    equals_golden=np.array([query.is_twin for query in sampled]),
    equals_start=which_equal(sampled, start),
    distinct=np.array([sum(query.is_first) for query in sampled]),
    canonical=canonical(run.codec, sampled),
    utilities=of_samples(sampled, "utility").astype(float) if knows_utility else None,
    rewards=of_samples(sampled, "reward"),
    golden_rewards=np.array([query.golden_reward for query in sampled]),
    start_rewards=of_samples(start, "reward"),
    trained_rewards=of_samples(trained, "reward"),
    trained_golden_rewards=np.array([query.golden_reward for query in trained]),
    logprobs=logprobs[0],
    start_logprobs=logprobs[1],
    preference_ids=[one.record.query_id for one in preferences],
    preference_scores=_padded(
      [distinct_scores(one.responses, one.record.scores) for one in preferences], -1.0
    ),
    preference_rewards=preference_rewards,
    trained_preference_rewards=trained_preference_rewards,
    preference_lengths=_padded(
      [[float(len(text)) for text in one.record.responses] for one in preferences], 0.0
    ),
  )


def which_equal(
  sampled: Sequence[SampledQuery], others: Sequence[SampledQuery]
) -> Bool[np.ndarray, "Q S O"]:
  """Which sample to a query is the same response as which other sample to it."""
  pairs = zip(sampled, others, strict=True)
  return np.array(
    [[[one.key == two.key for two in b.responses] for one in a.responses] for a, b in pairs]
  )


def _preference_rewards(
  run: Run,
  preferences: Sequence[Tokenised[Preference]],
  reward_model: Player,
  progress: PhaseProgress,
) -> Float[np.ndarray, "B R"]:
  """Rewards of preferences.

  Raises:
    NotFinite: one is not a number.
  """
  sequences = [(one.query, response) for one in preferences for response in one.responses]
  query_ids = [one.record.query_id for one in preferences for _ in one.responses]
  flat = iter(rewards_of(run, sequences, query_ids, reward_model, progress))
  return _padded([[next(flat) for _ in one.responses] for one in preferences], 0.0)


def _padded(rows: Sequence[Sequence[float]], padding: float) -> Float[np.ndarray, "B R"]:
  """The rows as one array as wide as the longest."""
  array = np.full((len(rows), max(map(len, rows))), padding)
  for row, values in zip(array, rows, strict=True):
    row[: len(values)] = values
  return array
