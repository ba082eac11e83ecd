"""How often one set of responses is judged better than another."""

from collections.abc import Sequence

import numpy as np


def win_rate(rewards: Sequence[float], others: Sequence[float]) -> float:
  """The fraction of queries whose response has the higher testing reward; ties count half.

  Args:
    rewards: one testing reward a query.
    others: the opponent's testing rewards on the same queries, in the same order.

  Raises:
    ValueError: the two are not of one length, or empty.
  """
  if len(rewards) != len(others) or not len(rewards):
    raise ValueError(f"win_rate compares {len(rewards)} rewards with {len(others)}.")
  difference = np.asarray(rewards) - np.asarray(others)
  return float(np.mean((1 + np.sign(difference)) / 2))
