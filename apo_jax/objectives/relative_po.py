"""Relative Preference Optimization: best responses against worst ones of other queries too."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import log_ratios
from apo_jax.objectives.pairs import read_by_pairs
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.selection import pairs_from_scores
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class RelativePO(PolicyLoss):
  """Relative Preference Optimization (arXiv 2402.10958), a mean over pairs of queries (i, j).

      z_ij = (log pi - log pi_ref)(y_best | x_i) - (log pi - log pi_ref)(y_worst | x_j)
      W_ij = softmax over j of -(1 - cosine(e_i, e_j)) / temperature
      L    = -log sigmoid(beta * W_ij * z_ij)

  e is the mean of the policy's last hidden states over a query, without gradient, where the paper
  has a sentence encoder. The pairs are of the whole batch, whatever the mesh; the authors' code
  takes those of each device alone. As the rows of W sum to 1, a pair's weight falls with the number
  of queries; `weights="times_queries"` takes that back.

  Queries without two responses of different rewards do not count.

  Attributes:
    beta: the strength of the pull towards the reference policy.
    temperature: of the weights; near 0 each query is its own pair alone, which is DPO.
    weights: "sum_to_one", as the paper has them, or "times_queries".
  """

  name: ClassVar[str] = "relative_po"
  whole_batch: ClassVar[bool] = True
  reads_query_embeddings: ClassVar[bool] = True
  order_only: ClassVar[bool] = True
  beta: PositiveFloat = 0.1
  temperature: PositiveFloat = 0.5
  weights: Literal["sum_to_one", "times_queries"] = "sum_to_one"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over pairs of queries.

    Metrics, all over these pairs, are `margin`, the weighted one; `accuracy`, pairs of margin > 0,
    those of 0 as a half; `own_weight`, the weight that queries give their own pair.
    """
    rewards, valid = responses.rewards, responses.valid
    pairs = pairs_from_scores(rewards, valid, "best_worst")
    usable = jnp.any(pairs, axis=(1, 2))
    ratios = log_ratios(responses)
    best = jnp.sum(jnp.where(jnp.any(pairs, axis=2), ratios, 0.0), axis=1)
    worst = jnp.sum(jnp.where(jnp.any(pairs, axis=1), ratios, 0.0), axis=1)
    weights = self._weights(jax.lax.stop_gradient(responses.query_embeddings), usable)
    both = usable[:, None] & usable[None, :]
    # Masked before the loss as well as after it, so that padding cannot reach the gradient.
    margins = jnp.where(both, self.beta * weights * (best[:, None] - worst[None, :]), 0.0)
    queries = jnp.sum(usable, dtype=jnp.float32)
    return Sums(
      total=jnp.sum(jnp.where(both, -jax.nn.log_sigmoid(margins), 0.0)),
      count=queries**2,
      metrics={
        "margin": jnp.sum(margins),
        "accuracy": jnp.sum(jnp.where(both, (1.0 + jnp.sign(margins)) / 2, 0.0)),
        "own_weight": queries * jnp.sum(jnp.where(usable, jnp.diagonal(weights), 0.0)),
      },
    )

  def _weights(
    self, embeddings: Float[Array, "B E"], usable: Bool[Array, " B"]
  ) -> Float[Array, "B B"]:
    """W, whose columns are those of usable queries."""
    embeddings = embeddings.astype(jnp.float32)
    lengths = jnp.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = embeddings / jnp.maximum(lengths, 1e-8)
    cosines = jnp.matmul(directions, directions.T, precision=jax.lax.Precision.HIGHEST)
    distances = 1.0 - cosines
    weights = jax.nn.softmax(jnp.where(usable, -distances / self.temperature, -1e9), axis=1)
    return weights * jnp.sum(usable) if self.weights == "times_queries" else weights

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns the best and the worst response of every query."""
    return read_by_pairs(rewards, valid, "best_worst")
