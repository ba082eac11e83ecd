"""The parts that human preferences come in, each a term of the loss."""

from collections.abc import Sequence

import jax.numpy as jnp

from apo_jax.objectives.apo import APO, ScoredRewards
from apo_jax.objectives.sums import Sums


def term_of(subset: str) -> str:
  """What the term of a subset is called."""
  return f"preference_{subset}"


def subset_sums(loss: APO, rewards: ScoredRewards, subsets: Sequence[str]) -> dict[str, Sums]:
  """The sums of the preference term over each subset's preferences alone, by `term_of`.

  Metrics are `preference_<subset>_margin` and `preference_<subset>_accuracy`.

  Args:
    loss: whose preference term is meant.
    rewards: with `preference_subsets`, places in `subsets`.
    subsets: their names; none, and there are no such terms.
  """
  preferences = rewards._replace(golden=None, golden_scores=None, golden_twins=None)
  found = {}
  for place, name in enumerate(subsets):
    own = (rewards.preference_subsets == place)[:, None]
    scores = jnp.where(own, rewards.preference_scores, -1.0)
    sums = loss(preferences._replace(preference_scores=scores))["preference"]
    metrics = {key.removeprefix("preference_"): value for key, value in sums.metrics.items()}
    found[term_of(name)] = sums._replace(metrics=metrics).named(term_of(name))
  return found
