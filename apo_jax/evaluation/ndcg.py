"""Whether a policy orders responses as their rewards do, and the best ones above all."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from apo_jax.evaluation.uncertainty import Estimate, ratio
from apo_jax.objectives.ndcg import discounts, gains, ideal


def ndcg(values: Float[ndarray, "Q R"], rewards: Float[ndarray, "Q R"]) -> dict[str, Estimate]:
  """The normalised discounted cumulative gain of an order of responses, and what chance would get.

      NDCG = sum_k g(response at rank k) / log2(k + 1), over its largest value

  (Jarvelin & Kekalainen, ACM TOIS 20, 2002), in the mean over queries. The gain g is that of the
  NDCG losses (arXiv 2410.18127): 2^y - 1, with y the rewards brought to [0, 1] within a query. Ties
  share the mean discount of their ranks, as in scikit-learn. A query whose rewards are all equal
  has no order and is left out. NDCG is far above 0 for a random order too, and the more so the
  fewer responses there are: its expectation stands beside it.

  Args:
    values: what orders the responses, the highest first; nan where there is no response.
    rewards: of the same responses.

  Returns:
    "ndcg" and "ndcg_of_chance"; nan where no query has an order.
  """
  there = np.isfinite(values)
  gain = gains(jnp.asarray(np.where(there, rewards, 0.0)), jnp.asarray(there))
  best, gain = np.asarray(ideal(gain), float), np.asarray(gain, float)
  at_rank = np.asarray(discounts(values.shape[1]), float)
  counted = best > 0
  found = {
    "ndcg": np.array([_discounts(*one, at_rank) for one in zip(values, there, strict=True)]),
    "ndcg_of_chance": np.array([one * at_rank[: one.sum()].mean() for one in there]),
  }
  shares = {
    name: np.where(counted, np.sum(each * gain, axis=1) / np.where(counted, best, 1.0), 0.0)
    for name, each in found.items()
  }
  return {name: ratio(share, counted.astype(float)) for name, share in shares.items()}


def _discounts(
  values: Float[ndarray, " R"], there: Bool[ndarray, " R"], at_rank: Float[ndarray, " R"]
) -> Float[ndarray, " R"]:
  """The discount of each response; the mean over their ranks for those of one value."""
  found = np.zeros(len(values))
  _, place, count = np.unique(-values[there], return_inverse=True, return_counts=True)
  ends = np.cumsum(count)
  of_value = [at_rank[end - size : end].mean() for end, size in zip(ends, count, strict=True)]
  found[there] = np.array(of_value)[place]
  return found
