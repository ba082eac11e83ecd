import math

import numpy as np
import pytest

from apo_jax.evaluation.win_rate import win_rate


@pytest.mark.parametrize(
  ("rewards", "others", "expected"),
  [
    ([1.0], [0.0], 1.0),
    ([0.0], [1.0], 0.0),
    ([1.0], [1.0], 0.5),
    ([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 5.0, 3.5], (1 + 0.5 + 0 + 1) / 4),
    ([-1.0, -1e-30, 1e30], [-2.0, 0.0, -1e30], 2 / 3),
  ],
)
def test_by_hand(rewards, others, expected):
  assert math.isclose(win_rate(rewards, others), expected)


def test_one_s_win_is_the_other_s_loss():
  rng = np.random.default_rng(0)
  rewards, others = rng.integers(0, 4, (2, 101)).astype(float).tolist()
  assert win_rate(rewards, others) != 0.5
  assert math.isclose(win_rate(rewards, others) + win_rate(others, rewards), 1.0)
  assert win_rate(rewards, rewards) == 0.5


def test_only_the_order_of_two_rewards_counts():
  rng = np.random.default_rng(0)
  rewards, others = rng.normal(size=(2, 50))
  raised = win_rate(np.exp(rewards).tolist(), np.exp(others).tolist())
  assert raised == win_rate(rewards.tolist(), others.tolist()) != 0.5


@pytest.mark.parametrize(("rewards", "others"), [([1.0], [1.0, 2.0]), ([], []), ([], [1.0])])
def test_lists_that_cannot_be_compared_raise(rewards, others):
  with pytest.raises(ValueError, match=f"compares {len(rewards)} rewards with {len(others)}"):
    win_rate(rewards, others)
