"""Contrastive rewards: how much better a sample is than what the policy said before the game."""

import dataclasses
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.objectives.shaping import SampledRewards, Shaping


@dataclasses.dataclass(frozen=True)
class Contrastive(Shaping):
  """Contrastive rewards (arXiv 2403.07708).

      r'(x, y) = r(x, y) - mean, median or maximum over j of r(x, y_j)

  y_j are answers of the supervised start to the same query, drawn once a game and scored anew by
  each round's reward model (`sampling.baselines`). One number is taken from all samples of a query,
  so that only losses which hold rewards of different queries against each other see it; others are
  refused. The form is the abstract's, the choice of the mean from memory.

  Attributes:
    over: what the baseline's rewards become.
  """

  name: ClassVar[str] = "contrastive"
  shifts_queries: ClassVar[bool] = True
  reads_baselines: ClassVar[bool] = True
  over: Literal["mean", "median", "max"] = "mean"

  def __call__(self, samples: SampledRewards) -> Float[Array, "Q S"]:
    """Returns the rewards, less the baseline's of their query."""
    reduce = {"mean": jnp.mean, "median": jnp.median, "max": jnp.max}[self.over]
    return samples.rewards - reduce(samples.baseline_rewards, axis=1, keepdims=True)
