"""Weights by which no term of the min player's loss is served at the expense of another."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.apo import APO, ScoredRewards
from apo_jax.objectives.ranges import SmallShare
from apo_jax.objectives.subsets import subset_sums, term_of
from apo_jax.objectives.weighting import Weighting

# Of a cosine: far above float32's rounding, far below what weights are asked to be exact to.
_RIDGE = 1e-5
# Of the longest gradient: a term of less is fitted.
_ALMOST_NOTHING = 1e-6


@dataclasses.dataclass(frozen=True)
class MinNorm(Weighting):
  """MORE: the shortest convex combination of the terms' gradients (arXiv 2312.07401).

      L = sum_t w_t L_t      w = argmin over the simplex of | sum_t w_t g_t |^2

  Terms are "preference" and "golden"; of preferences whose subsets are told apart
  (`data.subset_column`) one for each subset, in the place of "preference". g_t is the gradient of
  L_t by the reward head's weights, the embeddings fixed. Its linear head makes it the sum over
  responses of dL_t/dr_i e_i, which takes no second backward pass.

  The weights change with every update, and replace both coefficients of `APO`. A term whose batch
  has no pair has weight 0, and the others share all of it.

  Caution: of two gradients of length 1 the shortest combination is always their mean, so "l2", the
  published runs' normalisation of five terms, is no weighting of two and is refused. And a short
  gradient weighs much: under "none" a term that is nearly fitted takes almost all of the weight.

  Sure: the authors' code (dunzeng/MORE, commit 94c54e4, `compute_lambda`, `more_ranking_loss`),
  which of two terms gives 0.999 or 0.001 wherever the closed form leaves the simplex. Ours: equal
  gradients weigh the same (of two in the code 0.999 and 0.001), no weight is below `least`, the
  minimum is found exactly (in the code by Frank and Wolfe's method), and a gradient is the update's
  own alone, without a mean over earlier ones, as is the code's default.

  Attributes:
    normalisation: what gradients are divided by first. "none"; "loss", each term's loss plus 1, as
      a share of their sum; "loss_and_norm", the loss times the gradient's length (in the code
      "loss+"); "l2", that length, which is refused of two terms.
    least: the smallest weight of a term that the batch has pairs of.
  """

  name: ClassVar[str] = "min_norm"
  needs_head_gradients: ClassVar[bool] = True
  normalisation: Literal["none", "loss", "loss_and_norm", "l2"] = "none"
  least: SmallShare = 0.001

  def weights(
    self,
    gradients: Mapping[str, Float[Array, "D"]],
    means: Mapping[str, Float[Array, ""]],
    counts: Mapping[str, Float[Array, ""]],
  ) -> dict[str, Float[Array, ""]] | None:
    """Returns w by term, without a gradient; None where there is one term alone."""
    names = list(gradients)
    if len(names) == 1:
      return None
    there = jnp.stack([counts[name] > 0 for name in names])
    normalised = jnp.stack(self._normalised(gradients, means))
    found = min_norm_weights(normalised, there, self.least)
    return dict(zip(names, jax.lax.stop_gradient(found), strict=True))

  def _normalised(
    self, gradients: Mapping[str, Float[Array, "D"]], means: Mapping[str, Float[Array, ""]]
  ) -> list[Float[Array, "D"]]:
    if self.normalisation == "none":
      return list(gradients.values())
    if self.normalisation == "loss":
      whole = sum(means[name] + 1.0 for name in gradients)
      return [one * whole / (means[name] + 1.0) for name, one in gradients.items()]
    lengths = {name: jnp.linalg.norm(one) for name, one in gradients.items()}
    divisors = {name: jnp.where(length > 0, length, 1.0) for name, length in lengths.items()}
    if self.normalisation == "loss_and_norm":
      divisors = {name: length * _positive(means[name]) for name, length in divisors.items()}
    return [one / divisors[name] for name, one in gradients.items()]


def _positive(loss: Float[Array, ""]) -> Float[Array, ""]:
  """The ranking loss of a batch without pairs is 0; of any other it is above."""
  return jnp.where(loss > 0, loss, 1.0)


def min_norm_weights(
  gradients: Float[Array, "T D"], there: Bool[Array, "T"], least: float = 0.0
) -> Float[Array, "T"]:
  """The weights w >= 0 of sum 1 that make sum_t w_t g_t shortest; 0 of terms that are not there.

  Of every set of terms the affine combination that is shortest has a closed form; where its weights
  are all positive it is a candidate, and the shortest of the candidates is the answer. A small
  ridge makes equal gradients weigh the same. What the weights that are raised to `least` get comes
  off the largest.
  """
  lengths = jnp.linalg.norm(gradients, axis=1)
  longest = jnp.max(lengths)
  lengths = jnp.where(longest > 0, jnp.maximum(lengths, _ALMOST_NOTHING * longest), 1.0)
  units = gradients / lengths[:, None]
  cosines = jnp.matmul(units, units.T, precision=jax.lax.Precision.HIGHEST)
  cosines += _RIDGE * jnp.eye(len(units))
  every = itertools.product((False, True), repeat=len(units))
  sets = jnp.array([one for one in every if any(one)])

  def shortest_of(chosen: Bool[Array, "T"]) -> tuple[Float[Array, "T"], Float[Array, ""]]:
    within = chosen[:, None] & chosen
    system = jnp.where(within, cosines, jnp.eye(len(chosen)))
    scaled = jnp.linalg.solve(system, chosen / lengths)
    weights = scaled / lengths
    weights, scaled = (one / jnp.sum(weights) for one in (weights, scaled))
    possible = jnp.all(weights >= 0) & jnp.all(there | ~chosen)
    squared = scaled @ jnp.where(within, cosines, 0.0) @ scaled
    return weights, jnp.where(possible, squared, jnp.inf)

  weights, squared = jax.vmap(shortest_of)(sets)
  found = jnp.where(there, weights[jnp.argmin(squared)], 0.0)
  lowest = jnp.minimum(least, 1 / jnp.maximum(jnp.sum(there), 1))
  raised = jnp.where(there, jnp.maximum(found, lowest), 0.0)
  largest = jnp.arange(len(found)) == jnp.argmax(found)
  return raised - jnp.where(largest, jnp.sum(raised - found), 0.0)


def head_gradients(
  loss: APO, rewards: ScoredRewards, subsets: Sequence[str] = ()
) -> dict[str, Float[Array, "D"]]:
  """The gradients of the terms' totals by the weights of a linear reward head, by term.

  They are sums over queries, so that those of parts of a batch add up to the batch's.

  Args:
    loss: whose terms are meant.
    rewards: with embeddings, of which they are products with those weights.
    subsets: of preferences, each of which is then a term (`subset_sums`).
  """

  def total(name: str, **changed: Array) -> Float[Array, ""]:
    read = rewards._replace(**changed)
    return (subset_sums(loss, read, subsets) if name in of_subsets else loss(read))[name].total

  of_subsets = [term_of(name) for name in subsets]
  terms = [(name, "preferences", "preference") for name in of_subsets or ["preference"]]
  found = {}
  for name, field, kind in (*terms, ("golden", "golden", "golden")):
    values, embeddings = getattr(rewards, field), getattr(rewards, f"{kind}_embeddings")
    if values is not None:
      of_rewards = jax.grad(lambda values, n=name, f=field: total(n, **{f: values}))(values)
      found[name] = jnp.einsum(
        "br,brd->d", of_rewards, embeddings, precision=jax.lax.Precision.HIGHEST
      )
  return found
