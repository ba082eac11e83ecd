"""The numbers of a round, from a judged round written by hand."""

import dataclasses
import json

import numpy as np
import pytest

from apo_jax.evaluation.judged_round import JudgedRound
from apo_jax.evaluation.standard import standard_numbers
from apo_jax.logs.files import json_text

ROUND = JudgedRound(
  number=2,
  texts=[["a b", "a b"], ["c d", "e"]],
  lengths=np.array([[2, 2], [2, 1]]),
  finished=np.ones((2, 2), bool),
  utilities=np.array([[1.0, 0.5], [0.0, 0.5]]),
  rewards=np.array([[1.0, 3.0], [0.0, -4.0]]),
  golden_rewards=np.array([2.0, 0.0]),
  start_rewards=np.array([[5.0, 0.0], [-9.0, 0.0]]),
  trained_rewards=np.array([[0.0, 1.0], [2.0, 3.0]]),
  trained_golden_rewards=np.array([2.0, 4.0]),
  logprobs=np.array([[-1.0, -1.0], [-2.0, -3.0]]),
  start_logprobs=np.array([[-2.0, -2.0], [-2.0, -4.0]]),
  preference_scores=np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]]),
  preference_rewards=np.array([[0.0, 1.0, 9.0], [3.0, 2.0, 1.0]]),
  trained_preference_rewards=np.array([[1.0, 1.0, 9.0], [3.0, 2.0, 1.0]]),
  preference_lengths=np.array([[5.0, 5.0, 0.0], [1.0, 2.0, 3.0]]),
)


def test_numbers_by_hand():
  numbers = standard_numbers(ROUND, calibration_bins=2)
  expected = {
    "round": 2,
    "true_utility": 0.5,
    "testing_reward": 0.0,
    # Means of queries 2 and -2, against golden 2 and 0, and against the start's 2.5 and -4.5.
    "win_rate_golden": 0.25,
    "win_rate_start": 0.5,
    "kl_to_start": 0.75,
    "response_length": 1.75,
    # Pairs a-b twice and c-d.
    "distinct_2": 2 / 3,
    "golden_margin": 1.5,
    # Of four pairs, by rewards that tie, that are all right but one, and by length.
    "reward_accuracy": 3.5 / 4,
    "testing_accuracy": 3 / 4,
    "longer_wins_accuracy": 0.5 / 4,
  }
  for name, value in expected.items():
    assert numbers[name] == pytest.approx(value), name
  assert sum(numbers["calibration"]["count"].tolist()) == 2 * 4
  assert json.loads(json_text(numbers)).keys() == numbers.keys()


def test_a_world_without_true_utility():
  blind = dataclasses.replace(ROUND, utilities=None)
  assert standard_numbers(blind, calibration_bins=2)["true_utility"] is None
