"""SPPO: log-ratios are regressed on win rates against the policy that drew the samples."""

import dataclasses
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import comparable, log_ratios, win_rates
from apo_jax.objectives.pairs import read_by_pairs
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat
from apo_jax.objectives.selection import pairs_from_scores
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class SPPO(PolicyLoss):
  """Self-Play Preference Optimization (arXiv 2405.00675, equation 4.7), a mean over responses.

      h(y_i) = log pi(y_i | x) - log pi_ref(y_i | x)
      L      = (h(y_i) - (w_i - 1/2) / beta)^2

  "soft": w_i is the response's win rate (`groups.win_rates`), of queries with two responses or
  more. "hard": w is 1 for the best and 0 for the worst, of queries whose rewards differ, and no
  other response is read; TRL's `sppo_hard`, which this is checked against, is the sum of the two
  and so twice this mean.

  The reference is the opponent, with which the round starts. The paper's own estimate of w counts
  a response among its opponents, as a half (from memory); ours leaves it out.

  Attributes:
    beta: one over the paper's eta; the default is the paper's, by which targets reach 500 nats.
    labels: what w is.
  """

  name: ClassVar[str] = "sppo"
  reference: ClassVar[Literal["any", "round_start"]] = "round_start"
  beta: PositiveFloat = 0.001
  labels: Literal["soft", "hard"] = "soft"

  @property
  def order_only(self) -> bool:
    """Hard labels are those of the best and the worst."""
    return self.labels == "hard"

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over responses; the metric `target_error` is |h - target| in nats."""
    rewards, valid = responses.rewards, responses.valid
    if self.labels == "soft":
      rated, wins = comparable(valid), win_rates(rewards, valid)
    else:
      pairs = pairs_from_scores(rewards, valid, "best_worst")
      best, worst = jnp.any(pairs, axis=2), jnp.any(pairs, axis=1)
      rated, wins = best | worst, best.astype(jnp.float32)
    errors = jnp.where(rated, log_ratios(responses) - (wins - 0.5) / self.beta, 0.0)
    return Sums(
      total=jnp.sum(jnp.square(errors)),
      count=jnp.sum(rated, dtype=jnp.float32),
      metrics={"target_error": jnp.sum(jnp.abs(errors))},
    )

  def reads(self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
    """Returns all, or with hard labels the best and the worst response of every query."""
    return valid if self.labels == "soft" else read_by_pairs(rewards, valid, "best_worst")
