"""Batches for the steps and scorers. How a query shares its row with its responses is said here."""

from collections.abc import Sequence

import numpy as np

from apo_jax.policy_step import PolicyBatch
from apo_jax.reward_step import RewardBatch
from apo_jax.rows.rows import Response, Rows, make_shared_rows, shared_row_length

# A query and its responses, each with eos as its last token.
Item = tuple[Sequence[int], Sequence[Sequence[int]]]


def rows(items: Sequence[Item]) -> Rows:
  """All items' rows, each query in one with its responses."""
  eos = items[0][1][0][-1]
  parts = [(query, [Response(ids[:-1]) for ids in responses]) for query, responses in items]
  return make_shared_rows(parts, max(shared_row_length(*part) for part in parts), eos)


def policy_batch(items: Sequence[Item], reference: np.ndarray | None) -> PolicyBatch:
  """Responses of falling reward: the first is chosen, the last rejected."""
  shape = (len(items), len(items[0][1]))
  rewards = np.broadcast_to(-np.arange(shape[1], dtype=np.float32), shape).copy()
  return PolicyBatch(rows(items), rewards, reference, np.ones(shape, bool))


def reward_batch(items: Sequence[Item]) -> RewardBatch:
  """The first response of each item is golden: preferred to every other."""
  scores = np.zeros((len(items), len(items[0][1])), np.float32)
  scores[:, 0] = 1.0
  return RewardBatch(rows(items), scores)
