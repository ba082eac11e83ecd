"""Batches of random tokens for the steps, with padding of every kind in them."""

import numpy as np

from apo_jax.policy_step import PolicyBatch
from apo_jax.reward_step import RewardBatch
from apo_jax.rows.rows import Item, Response, Rows, make_rows, make_shared_rows
from tests import tiny

LENGTH = 16
LONGEST_QUERY, LONGEST_RESPONSE = 7, 8  # with eos


def items(rng: np.random.Generator, present: np.ndarray) -> list[Item]:
  """Queries with responses of different lengths, ended or not; None where not `present`.

  Of those that ended some did so by a stop string, so that their eos was not drawn.

  The first response to the first query is its eos alone.
  """
  made = []
  for there in present:
    query = [1, *_tokens(rng, 2, LONGEST_QUERY)]
    responses = [_response(rng) if one else None for one in there]
    made.append((query, responses))
  made[0][1][0] = Response([])
  return made


def rows(rng: np.random.Generator, present: np.ndarray, shared: bool = False) -> Rows:
  """Rows [B, R, LENGTH], or shared ones; where `present` is False, padding."""
  made, num_responses = items(rng, present), present.shape[1]
  if shared:
    length = LONGEST_QUERY + num_responses * LONGEST_RESPONSE
    return make_shared_rows(made, length, tiny.codec().eos)
  return make_rows(made, num_responses, LENGTH, tiny.codec().eos)


def _response(rng: np.random.Generator) -> Response:
  tokens, drawn = _tokens(rng, 1, LONGEST_RESPONSE), rng.random()
  return Response(tokens, finished=drawn < 0.7, drew_end=drawn < 0.55)


def _tokens(rng: np.random.Generator, fewest: int, most: int) -> list[int]:
  return rng.integers(3, 300, rng.integers(fewest, most)).tolist()


def reward_batch(
  preferences: int = 8, golden: int = 8, samples: int = 3, seed: int = 0, shared: bool = False
) -> RewardBatch:
  """K-wise preferences of 2 or 3 responses, some with ties, one item of padding on each side.

  Two samples of every third golden query were the golden response itself.
  """
  rng = np.random.default_rng(seed)
  scores = rng.integers(0, 3, (preferences, 3)).astype(np.float32)
  scores[1::3, 2] = -1.0
  scores[-1] = -1.0
  batch = RewardBatch(rows(rng, scores >= 0, shared), scores)
  if not golden:
    return batch
  golden_scores = np.zeros((golden, 1 + samples), np.float32)
  golden_scores[:, 0] = 1.0
  golden_scores[2] = -1.0
  twins = np.where(np.arange(golden) % 3 == 0, 2.0, 0.0).astype(np.float32)
  rows_of_golden = rows(rng, golden_scores >= 0, shared)
  return batch._replace(golden=rows_of_golden, golden_scores=golden_scores, golden_twins=twins)


def policy_batch(
  queries: int = 8, samples: int = 3, seed: int = 0, shared: bool = False
) -> PolicyBatch:
  """Scored samples: one query without any, one with a tie, one with an empty response."""
  rng = np.random.default_rng(seed)
  valid = np.ones((queries, samples), bool)
  valid[3] = False
  valid[5, 0] = False
  rewards = rng.normal(size=valid.shape).astype(np.float32)
  rewards[6] = rewards[6, 0]
  reference = -10.0 + rng.normal(size=valid.shape).astype(np.float32)
  return PolicyBatch(rows(rng, valid, shared), rewards, reference, valid)
