"""Judged rounds made by hand or drawn at random, without a model."""

import numpy as np

from apo_jax.evaluation.judged_round import JudgedRound

ROUND = JudgedRound(
  number=2,
  query_ids=["a", "b"],
  texts=[["a b", "a b"], ["c d", "e"]],
  lengths=np.array([[2, 2], [2, 1]]),
  finished=np.array([[True, True], [True, False]]),
  golden_lengths=np.array([3, 4]),
  golden_finished=np.array([True, False]),
  equals_golden=np.array([[True, True], [False, False]]),
  equals_start=np.array([[[False, True], [False, True]], [[False, False], [False, False]]]),
  distinct=np.array([1, 2]),
  canonical=np.array([[False, False], [True, True]]),
  utilities=np.array([[1.0, 0.5], [0.0, 0.5]]),
  rewards=np.array([[3.0, 3.0], [0.0, -4.0]]),
  golden_rewards=np.array([2.0, 0.0]),
  start_rewards=np.array([[5.0, 2.0], [-9.0, 0.0]]),
  trained_rewards=np.array([[9.0, 9.0], [2.0, 3.0]]),
  trained_golden_rewards=np.array([8.0, 4.0]),
  logprobs=np.array([[-1.0], [-2.0]]),
  start_logprobs=np.array([[-2.0], [-2.5]]),
  preference_ids=["c", "d"],
  preference_scores=np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]]),
  preference_rewards=np.array([[0.0, 1.0, 9.0], [3.0, 2.0, 1.0]]),
  trained_preference_rewards=np.array([[1.0, 1.0, 9.0], [3.0, 2.0, 1.0]]),
  preference_lengths=np.array([[5.0, 5.0, 0.0], [1.0, 2.0, 3.0]]),
)


def random_round(seed: int, num_queries: int = 12, num_samples: int = 3) -> JudgedRound:
  """A round of random numbers, with ties, twins, padding and preferences without a pair."""
  random = np.random.default_rng(seed)
  size = (num_queries, num_samples)
  words = ["red", "box", "on", "the", "old", "table"]
  scores = random.integers(-1, 3, (num_queries, 3)).astype(float)
  return JudgedRound(
    number=1,
    query_ids=[f"q{index}" for index in range(num_queries)],
    texts=[[" ".join(random.choice(words, 6)) for _ in range(num_samples)] for _ in range(size[0])],
    lengths=random.integers(0, 9, size),
    finished=random.random(size) < 0.7,
    golden_lengths=random.integers(1, 9, num_queries),
    golden_finished=random.random(num_queries) < 0.9,
    equals_golden=random.random(size) < 0.4,
    equals_start=random.random((*size, num_samples)) < 0.3,
    distinct=random.integers(1, num_samples + 1, num_queries),
    canonical=random.random(size) < 0.9,
    utilities=random.random(size),
    rewards=random.integers(0, 4, size).astype(float),
    golden_rewards=random.integers(0, 4, num_queries).astype(float),
    start_rewards=random.integers(0, 4, size).astype(float),
    trained_rewards=random.normal(size=size),
    trained_golden_rewards=random.normal(size=num_queries),
    logprobs=-random.random((num_queries, 1)),
    start_logprobs=-random.random((num_queries, 1)),
    preference_ids=[f"p{index}" for index in range(num_queries)],
    preference_scores=scores,
    preference_rewards=random.integers(0, 4, scores.shape).astype(float),
    trained_preference_rewards=random.normal(size=scores.shape),
    preference_lengths=random.integers(1, 5, scores.shape).astype(float),
  )
