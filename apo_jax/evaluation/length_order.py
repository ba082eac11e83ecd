"""Whether rewards order responses as their lengths do."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.stats import rankdata


def rank_correlation(
  rewards: Float[ndarray, "Q S"], lengths: Int[ndarray, "Q S"], counted: Bool[ndarray, "Q S"]
) -> float:
  """Spearman's rank correlation of reward and length within a query, in the mean over queries.

  Ties share their mean rank. A query whose rewards or lengths are all equal has no correlation and
  is left out; nan where none is left.

  Args:
    rewards: of the samples to each query.
    lengths: of the samples, in tokens.
    counted: which samples are: of equal ones the first alone.
  """
  found = []
  for reward, length, kept in zip(rewards, lengths, counted, strict=True):
    ranks = np.stack([rankdata(reward[kept]), rankdata(length[kept])])
    ranks -= ranks.mean(axis=1, keepdims=True)
    sizes = np.linalg.norm(ranks, axis=1)
    if sizes.all():
      found.append(ranks[0] @ ranks[1] / sizes.prod())
  return float(np.mean(found)) if found else float("nan")


def agreement(margins: Float[ndarray, " P"], longer_by: Int[ndarray, " P"]) -> float:
  """The share of pairs whose longer response has the higher reward.

  Pairs of equal length are left out, equal rewards count half; nan where no pair is left.

  Args:
    margins: the reward of one response less that of the other.
    longer_by: the length of the one less that of the other.
  """
  differ = longer_by != 0
  agree = (1 + np.sign(margins) * np.sign(longer_by)) / 2
  return float(np.mean(agree[differ])) if differ.any() else float("nan")
