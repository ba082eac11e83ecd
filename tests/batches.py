"""Batches of random tokens for the steps, with padding of every kind in them."""

import numpy as np

from apo_jax.data.rows import Response, Rows, make_rows
from apo_jax.policy_step import PolicyBatch
from apo_jax.reward_step import RewardBatch
from tests import tiny

LENGTH = 16


def rows(rng: np.random.Generator, present: np.ndarray) -> Rows:
  """Rows [B, R, LENGTH]; where `present` is False, padding."""
  items = []
  for there in present:
    query = [1, *_tokens(rng, 2, 7)]
    responses = [
      Response(_tokens(rng, 1, 8), bool(rng.random() < 0.7)) if one else None for one in there
    ]
    items.append((query, responses))
  return make_rows(items, present.shape[1], LENGTH, tiny.codec().eos)


def _tokens(rng: np.random.Generator, fewest: int, most: int) -> list[int]:
  return rng.integers(3, 300, rng.integers(fewest, most)).tolist()


def reward_batch(
  preferences: int = 8, golden: int = 8, samples: int = 3, seed: int = 0
) -> RewardBatch:
  """K-wise preferences of 2 or 3 responses, some with ties, one item of padding on each side."""
  rng = np.random.default_rng(seed)
  scores = rng.integers(0, 3, (preferences, 3)).astype(np.float32)
  scores[1::3, 2] = -1.0
  scores[-1] = -1.0
  batch = RewardBatch(rows(rng, scores >= 0), scores)
  if not golden:
    return batch
  apo_scores = np.zeros((golden, 1 + samples), np.float32)
  apo_scores[:, 0] = 1.0
  apo_scores[2] = -1.0
  return batch._replace(apo=rows(rng, apo_scores >= 0), apo_scores=apo_scores)


def policy_batch(queries: int = 8, samples: int = 3, seed: int = 0) -> PolicyBatch:
  """Scored samples: one query without any, one with a tie, one with an empty response."""
  rng = np.random.default_rng(seed)
  valid = np.ones((queries, samples), bool)
  valid[3] = False
  valid[5, 0] = False
  rewards = rng.normal(size=valid.shape).astype(np.float32)
  rewards[6] = rewards[6, 0]
  reference = -10.0 + rng.normal(size=valid.shape).astype(np.float32)
  return PolicyBatch(rows(rng, valid), rewards, reference, valid)
