import numpy as np
import pytest

from apo_jax.evaluation.win_rate import win_rates


def rates(rewards, others, equal=()):
  """Win rates of one query's samples; `equal` lists (sample, opponent) that are one response."""
  same = np.zeros((1, len(rewards), len(others)), bool)
  for place in equal:
    same[(0, *place)] = True
  return win_rates(np.array([rewards]), np.array([others]), same).item()


@pytest.mark.parametrize(
  ("rewards", "others", "equal", "expected"),
  [
    ([1.0], [0.0], (), 1.0),
    ([0.0], [1.0], (), 0.0),
    ([1.0], [1.0], (), 0.5),
    # Equal ids tie, whatever rounding says of their rewards.
    ([1.0 + 1e-7], [1.0], [(0, 0)], 0.5),
    ([0.0, 2.0], [1.0], (), 0.5),
    ([0.0, 2.0], [1.0, 3.0, 2.0], [(0, 2)], (0.5 + 1.0 + 0.5) / 6),
  ],
)
def test_by_hand(rewards, others, equal, expected):
  assert rates(rewards, others, equal) == pytest.approx(expected)


def test_one_s_win_is_the_other_s_loss():
  random = np.random.default_rng(0)
  rewards, others = random.integers(0, 4, (2, 101, 3)).astype(float)
  equal = random.random((101, 3, 3)) < 0.2
  ours, theirs = (
    win_rates(rewards, others, equal),
    win_rates(others, rewards, equal.swapaxes(1, 2)),
  )
  assert np.mean(ours) != 0.5
  np.testing.assert_allclose(ours + theirs, 1.0)


def test_only_the_order_of_two_rewards_counts():
  rewards, others = np.random.default_rng(0).normal(size=(2, 50, 2))
  none = np.zeros((50, 2, 2), bool)
  raised = win_rates(np.exp(rewards), np.exp(others), none)
  np.testing.assert_array_equal(raised, win_rates(rewards, others, none))
