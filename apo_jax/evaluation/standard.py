"""The numbers that every round has."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from apo_jax.evaluation.accuracy import accuracy, error_correlation
from apo_jax.evaluation.calibration import calibration
from apo_jax.evaluation.judged_round import JudgedRound
from apo_jax.evaluation.text import distinct_2, repetition
from apo_jax.evaluation.uncertainty import Measured, mean, ratio
from apo_jax.evaluation.win_rate import win_rates


class Numbers(NamedTuple):
  """The numbers of a round.

  Attributes:
    queries: those over test queries.
    preferences: those over test preferences.
    calibration: the bins behind the calibration errors.
  """

  queries: Measured
  preferences: Measured
  calibration: dict[str, Any]


def standard_numbers(judged: JudgedRound, *, calibration_bins: int) -> Numbers:
  """Returns the numbers of evaluation.json by name, and the bins of calibration.

      true_utility, testing_reward   means over samples
      win_rate_golden, win_rate_start  shares of pairs won, ties as halves (`win_rates`)
      kl_to_start                    of unfiltered samples, in nats (below)
      response_length, golden_length     tokens
      unfinished, golden_unfinished  shares that ran into the limit, or were cut
      empty                          share that says nothing
      repetition                     runs of four words that a response had before, in the mean
      distinct_2                     distinct word pairs over all of them
      distinct_samples               different samples a query
      equals_golden                  share of samples that equal the golden response
      non_canonical                  share of samples whose text is tokenised otherwise
      golden_margin                  golden reward less a sample's, by the round's reward model
      reward_accuracy, reward_ece, _ace, _mce  the round's reward model on test preferences
      testing_accuracy               the testing reward model on them
      longer_wins_accuracy           length in characters on them, over the same pairs
      judge_error_correlation        whether both reward models err on the same pairs

  `kl_to_start` is the mean of log pi(y|x) - log pi_start(y|x) over responses drawn from pi at
  temperature 1 without filters: an unbiased estimate of KL[pi || pi_start] over responses up to the
  longest that is sampled. What a stop string ended is scored without what follows it.

  What equals the golden response is left out of `golden_margin`, and a query without other samples
  with it. What is not defined is nan.
  """
  queries = {
    "testing_reward": mean(_each(judged.rewards)),
    "win_rate_golden": mean(
      win_rates(judged.rewards, judged.golden_rewards[:, None], judged.equals_golden[..., None])
    ),
    "win_rate_start": mean(win_rates(judged.rewards, judged.start_rewards, judged.equals_start)),
    "kl_to_start": mean(_kl(judged)),
    "response_length": mean(_each(judged.lengths)),
    "golden_length": mean(judged.golden_lengths.astype(float)),
    "unfinished": mean(_each(~judged.finished)),
    "golden_unfinished": mean((~judged.golden_finished).astype(float)),
    "empty": mean(_of_texts(judged, lambda text: not text.strip())),
    "repetition": mean(_of_texts(judged, repetition)),
    "distinct_2": distinct_2(judged.texts),
    "distinct_samples": mean(judged.distinct.astype(float)),
    "equals_golden": mean(_each(judged.equals_golden)),
    "non_canonical": mean(_each(~judged.canonical)),
    "golden_margin": ratio(*_golden_margins(judged)),
  }
  if judged.utilities is not None:
    queries = {"true_utility": mean(_each(judged.utilities)), **queries}
  scores, trained = judged.preference_scores, judged.trained_preference_rewards
  errors, bins = calibration(trained, scores, num_bins=calibration_bins)
  preferences = {
    "reward_accuracy": accuracy(trained, scores),
    **{f"reward_{name}": estimate for name, estimate in errors.items()},
    "testing_accuracy": accuracy(judged.preference_rewards, scores),
    "longer_wins_accuracy": accuracy(judged.preference_lengths, scores),
    "judge_error_correlation": error_correlation(judged.preference_rewards, trained, scores),
  }
  return Numbers(
    Measured(judged.query_ids, queries), Measured(judged.preference_ids, preferences), bins
  )


def _each(of_samples: ndarray) -> Float[ndarray, " Q"]:
  """The mean over each query's samples, [Q, S] to [Q]."""
  return np.mean(of_samples, axis=1, dtype=float)


def _of_texts(judged: JudgedRound, number: Callable[[str], float]) -> Float[ndarray, " Q"]:
  """The mean of a number of texts over each query's samples."""
  return np.array([np.mean([number(text) for text in texts]) for texts in judged.texts], float)


def _kl(judged: JudgedRound) -> Float[ndarray, " Q"]:
  """The mean over each query's K responses; 0 where the policy is the start, and K is 0."""
  differences = judged.logprobs - judged.start_logprobs
  return np.sum(differences, axis=1) / max(differences.shape[1], 1)


def _golden_margins(judged: JudgedRound) -> tuple[Float[ndarray, " Q"], Float[ndarray, " Q"]]:
  """Each query's margin, and 1 where it has one: a sample that is not the golden response."""
  others = ~judged.equals_golden
  margins = judged.trained_golden_rewards[:, None] - judged.trained_rewards
  count = np.sum(others, axis=1)
  margin = np.sum(np.where(others, margins, 0.0), axis=1) / np.maximum(count, 1)
  return margin, (count > 0).astype(float)
