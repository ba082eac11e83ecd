"""The numbers of a round, from a judged round written by hand."""

import dataclasses
import math

import numpy as np
import pytest

from apo_jax.evaluation.standard import standard_numbers
from tests.evaluation.rounds import ROUND, random_round


def values(judged):
  numbers = standard_numbers(judged, calibration_bins=4)
  estimates = {**numbers.queries.estimates, **numbers.preferences.estimates}
  return {name: estimate.value for name, estimate in estimates.items()}


def test_numbers_by_hand():
  numbers = standard_numbers(ROUND, calibration_bins=2)
  expected = {
    "true_utility": 0.5,
    "testing_reward": 0.5,
    # The first query's samples are golden, whatever their reward; the second's tie and lose.
    "win_rate_golden": (0.5 + 0.25) / 2,
    # 3 loses to 5 and is the start's other twice; 0 and -4 beat -9, against 0 a tie and a loss.
    "win_rate_start": (0.25 + 0.625) / 2,
    "kl_to_start": 0.75,
    "response_length": 1.75,
    "golden_length": 3.5,
    "unfinished": 0.25,
    "golden_unfinished": 0.5,
    "empty": 0.0,
    "repetition": 0.0,
    # Pairs a-b twice and c-d.
    "distinct_2": 2 / 3,
    "distinct_samples": 1.5,
    "equals_golden": 0.5,
    "non_canonical": 0.5,
    # Of the second query alone: 4 less 2 and 3.
    "golden_margin": 1.5,
    # Of four pairs, by rewards that tie, that are all right but one, and by length.
    "reward_accuracy": 3.5 / 4,
    "testing_accuracy": 3 / 4,
    "longer_wins_accuracy": 0.5 / 4,
    # Wrong are (1/2, 0, 0, 0) and (1, 0, 0, 0).
    "judge_error_correlation": 1.0,
  }
  found = values(ROUND)
  for name, value in expected.items():
    assert found[name] == pytest.approx(value), name
  assert found.keys() - expected.keys() == {"reward_ece", "reward_ace", "reward_mce"}
  assert sum(numbers.calibration["count"].tolist()) == 2 * 4


def test_a_world_without_true_utility():
  assert "true_utility" not in values(dataclasses.replace(ROUND, utilities=None))


def test_no_margin_where_every_sample_is_golden():
  judged = dataclasses.replace(ROUND, equals_golden=np.ones((2, 2), bool))
  assert math.isnan(values(judged)["golden_margin"])
  assert values(judged)["win_rate_golden"] == 0.5


def test_the_start_does_not_differ_from_itself():
  nothing = np.zeros((2, 0))
  same = np.broadcast_to(np.eye(2, dtype=bool), (2, 2, 2))
  judged = dataclasses.replace(
    ROUND,
    logprobs=nothing,
    start_logprobs=nothing,
    start_rewards=ROUND.rewards,
    equals_start=same,
  )
  assert values(judged)["kl_to_start"] == 0.0
  assert values(judged)["win_rate_start"] == 0.5


def with_samples(judged, order):
  """The same round with these of each query's samples, in this order."""
  chosen = {
    name: getattr(judged, name)[:, order]
    for name in (
      *("lengths", "finished", "equals_golden", "equals_start", "canonical", "utilities"),
      *("rewards", "trained_rewards"),
    )
  }
  texts = [[of_query[index] for index in order] for of_query in judged.texts]
  return dataclasses.replace(judged, texts=texts, **chosen)


def test_empty_and_repeated_samples_count_within_their_query():
  judged = dataclasses.replace(ROUND, texts=[["", " \n"], ["a b c d a b c d", ""]])
  assert values(judged)["empty"] == pytest.approx((1 + 1 / 2) / 2)
  assert values(judged)["repetition"] == pytest.approx((0 + 1 / 10) / 2)


@pytest.mark.parametrize("order", [[2, 0, 1], [0, 1, 2, 0, 1, 2], [0, 0, 1, 1, 2, 2]])
def test_samples_given_twice_or_in_another_order_change_no_number_but_distinct_2(order):
  judged = random_round(3)
  ours, theirs = values(with_samples(judged, order)), values(judged)
  for name in ours.keys() - {"distinct_2"}:
    assert ours[name] == pytest.approx(theirs[name]), name


def test_longer_wins_is_over_the_pairs_of_the_accuracies():
  """What the cut has made equal to another has score -1, and no length counts there either."""
  scores = np.array([[1.0, 0.0, -1.0], [0.0, 1.0, 0.5]])
  lengths = np.array([[9.0, 2.0, 1.0], [1.0, 2.0, 2.0]])
  judged = dataclasses.replace(ROUND, preference_scores=scores, preference_lengths=lengths)
  assert values(judged)["longer_wins_accuracy"] == pytest.approx((1 + 1 + 1 + 0.5) / 4)
  # A reward that is the length makes the same of the same pairs.
  same = dataclasses.replace(judged, preference_rewards=lengths, trained_preference_rewards=lengths)
  found = values(same)
  assert found["longer_wins_accuracy"] == found["reward_accuracy"] == found["testing_accuracy"]
  moved = dataclasses.replace(judged, preference_lengths=np.where(scores < 0, 50.0, lengths))
  assert values(moved) == pytest.approx(values(judged), nan_ok=True)
