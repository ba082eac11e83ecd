"""diffNDCG: responses sorted by a network of relaxed comparators."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from apo_jax.objectives.groups import log_ratios
from apo_jax.objectives.ndcg import discounts, gains, ideal, ndcg_sums
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class DiffsortNDCG(PolicyLoss):
  """diffNDCG (arXiv 2410.18127), a mean over queries.

      s = beta * (log pi(y | x) - log pi_ref(y | x))
      L = -NDCG = -sum over ranks k of g_k / log2(1 + k) / (the largest such sum)

  g_k is the gain that a differentiable odd-even sorting network expects at rank k: n layers of
  comparators for n responses, each of which mixes two neighbours u, v, and their gains likewise, by

      a = 1/2 + arctan(steepness * (s_u - s_v)) / pi      (the Cauchy relaxation, arXiv 2203.09630)
      s_u, s_v = a * s_u + (1 - a) * s_v, (1 - a) * s_u + a * s_v

  What a relaxed network gives depends on the order that it is fed: here responses enter by falling
  reward, so that their places in the batch do not matter (equal rewards stand by place). Gains are
  of rewards brought to [0, 1] within the query (`ndcg.gains`). A query whose rewards are all equal
  does not count. The paper's own score, which subtracts moving averages, is left out: its code was
  not found, and the paper compares with the score here. Equations as its authors' code has them.

  Attributes:
    beta: the scale of the log-ratios.
    steepness: of the comparators, of which one is exact at infinity.
  """

  name: ClassVar[str] = "ndcg_diffsort"
  beta: PositiveFloat = 0.1
  steepness: PositiveFloat = 10.0

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over queries; the metric is the relaxed `ndcg`."""
    rewards, valid = responses.rewards, responses.valid
    # By falling reward, padding last.
    order = jnp.argsort(
      jnp.where(valid, -rewards.astype(jnp.float32), jnp.inf), axis=1, stable=True
    )
    scores = jnp.take_along_axis(self.beta * log_ratios(responses), order, axis=1)
    gained = jnp.take_along_axis(gains(rewards, valid), order, axis=1)
    there = jnp.take_along_axis(valid, order, axis=1)
    at_rank = relaxed_sort(scores, gained, there, self.steepness)
    return ndcg_sums(jnp.sum(at_rank * discounts(valid.shape[1]), axis=1), ideal(gained))


def relaxed_sort(
  scores: Float[Array, "B R"],
  values: Float[Array, "B R"],
  valid: Bool[Array, "B R"],
  steepness: float,
) -> Float[Array, "B R"]:
  """Returns the values as a relaxed odd-even network orders them, by falling score.

  Args:
    scores: float32 [B, R].
    values: float32 [B, R], which are mixed as the scores are.
    valid: bool [B, R], padding last: it stays where it is and adds no layers.
    steepness: of the comparators.
  """
  num_responses = scores.shape[1]
  layers = jnp.sum(valid, axis=1, keepdims=True)
  for layer in range(num_responses):
    first = layer % 2
    pairs = _neighbours(scores, first)
    used = _neighbours(valid, first)[:, :, 1] & (layer < layers)
    lead = jnp.where(used, pairs[:, :, 0] - pairs[:, :, 1], 0.0)
    kept = jnp.where(used, 0.5 + jnp.arctan(steepness * lead) / jnp.pi, 1.0)
    scores, values = _mixed(scores, kept, first), _mixed(values, kept, first)
  return values


def _neighbours(array: Shaped[Array, "B R"], first: int) -> Shaped[Array, "B C 2"]:
  """Pairs of neighbours from a place on; what is left over has none."""
  num_pairs = (array.shape[1] - first) // 2
  return array[:, first : first + 2 * num_pairs].reshape(array.shape[0], num_pairs, 2)


def _mixed(
  values: Float[Array, "B R"], kept: Float[Array, "B C"], first: int
) -> Float[Array, "B R"]:
  """Each pair of neighbours mixed: `kept` is how much of itself each of the two keeps."""
  pairs = _neighbours(values, first)
  mixed = kept[:, :, None] * pairs + (1 - kept[:, :, None]) * pairs[:, :, ::-1]
  mixed = mixed.reshape(values.shape[0], -1)
  return jnp.concatenate([values[:, :first], mixed, values[:, first + mixed.shape[1] :]], axis=1)
