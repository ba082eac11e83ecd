"""Weights by which no term of the min player's loss is served at the expense of the other."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.apo import APO, ScoredRewards
from apo_jax.objectives.ranges import SmallShare
from apo_jax.objectives.weighting import Weighting


@dataclasses.dataclass(frozen=True)
class MinNorm(Weighting):
  """MORE: the shortest convex combination of the terms' gradients (arXiv 2312.07401).

      L = sum_t w_t L_t      w = argmin over the simplex of | sum_t w_t g_t |^2

  g_t is the gradient of L_t by the reward head's weights, the embeddings fixed. Its linear head
  makes it the sum over responses of dL_t/dr_i e_i, which takes no second backward pass. Of two
  terms, "preference" and "golden", the weights have a closed form:

      w_1 = clip(<g_2 - g_1, g_2> / |g_1 - g_2|^2, least, 1 - least)

  They change with every update, and replace both coefficients of `APO`. A term whose batch has no
  pair has weight 0, and the other is then the loss.

  Caution: of two gradients of length 1 the shortest combination is always their mean, so "l2", the
  published runs' normalisation of five terms, is no weighting of two and is refused. And a short
  gradient weighs much: under "none" a term that is nearly fitted takes almost all of the weight.

  Sure: the authors' code (dunzeng/MORE, commit 94c54e4, `compute_lambda`, `more_ranking_loss`),
  whose solver gives 0.999 or 0.001 wherever the closed form leaves the simplex. Ours: equal
  gradients weigh 1/2 each (in the code 0.999 and 0.001), and a gradient is the update's own alone,
  without a mean over earlier ones, as is the code's default.

  Attributes:
    normalisation: what gradients are divided by first. "none"; "loss", each term's loss plus 1, as
      a share of their sum; "loss_and_norm", the loss times the gradient's length (in the code
      "loss+"); "l2", that length, which is refused.
    least: the smallest weight.
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
    first, second = self._normalised(gradients, means)
    share = min_norm_share(first, second, self.least)
    there = [counts[name] > 0 for name in names]
    both = there[0] & there[1]
    found = [jnp.where(both, one, there[i]) for i, one in enumerate((share, 1.0 - share))]
    return {name: jax.lax.stop_gradient(one) for name, one in zip(names, found, strict=True)}

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


def min_norm_share(
  first: Float[Array, "D"], second: Float[Array, "D"], least: float = 0.0
) -> Float[Array, ""]:
  """The share s of `first` that makes s first + (1 - s) second shortest, in [least, 1 - least].

  1/2 where the two are equal, as every share does.
  """
  between = first - second
  squared = jnp.sum(between * between)
  share = jnp.sum(-between * second) / jnp.where(squared > 0, squared, 1.0)
  return jnp.where(squared > 0, jnp.clip(share, least, 1.0 - least), 0.5)


def head_gradients(loss: APO, rewards: ScoredRewards) -> dict[str, Float[Array, "D"]]:
  """The gradients of the terms' totals by the weights of a linear reward head, by term.

  They are sums over queries, so that those of parts of a batch add up to the batch's.

  Args:
    loss: whose terms are meant.
    rewards: with embeddings, of which they are products with those weights.
  """

  def total(name: str, changed: dict[str, Array]) -> Float[Array, ""]:
    return loss(rewards._replace(**changed))[name].total

  found = {}
  for name, field in (("preference", "preferences"), ("golden", "golden")):
    values, embeddings = getattr(rewards, field), getattr(rewards, f"{name}_embeddings")
    if values is not None:
      of_rewards = jax.grad(lambda values, n=name, f=field: total(n, {f: values}))(values)
      found[name] = jnp.einsum(
        "br,brd->d", of_rewards, embeddings, precision=jax.lax.Precision.HIGHEST
      )
  return found
