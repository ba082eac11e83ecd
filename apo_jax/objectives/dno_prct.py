"""DNO's practical form: DPO on the pairs alone in which one response clearly wins."""

import dataclasses
from typing import ClassVar, Literal

import jax
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.groups import log_ratios, win_rates
from apo_jax.objectives.pairs import sums_over
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import PositiveFloat, Probability, Share
from apo_jax.objectives.selection import best_response, only, pairs_from_scores
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class DNOPrct(PolicyLoss):
  """DNO-Prct (arXiv 2404.03715, algorithm 2, equation 13), a mean over large-margin pairs.

      h(y) = beta * (log pi(y | x) - log pi_ref(y | x))
      L    = -log sigmoid(h(y_i) - h(y_j))

  over the pairs of a query in which w_i - w_j >= least_margin and i is the best or has
  w_i >= least_win_rate, w a response's win rate (`groups.win_rates`). The reference is the policy
  that drew the samples, with which the round starts. The equation is the paper's text. Its
  thresholds are of a judge's scores from 1 to 6 (at least 5, and 2 points apart); those here stand
  for them and are ours. A query without such a pair takes no part.

  Attributes:
    beta: the paper's eta.
    least_win_rate: from where on a response that is not its query's best may be preferred.
    least_margin: of win rates, from where on a pair is one.
  """

  name: ClassVar[str] = "dno_prct"
  reference: ClassVar[Literal["any", "round_start"]] = "round_start"
  beta: PositiveFloat = 0.1
  least_win_rate: Share = 0.8
  least_margin: Probability = 0.3

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over pairs; metrics are `margin` and `accuracy`."""
    preferred = self.large_margin_pairs(responses.rewards, responses.valid)
    implicit = self.beta * log_ratios(responses)
    return sums_over(preferred, implicit, lambda margin: -jax.nn.log_sigmoid(margin))

  def large_margin_pairs(
    self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]
  ) -> Bool[Array, "B R R"]:
    """Returns True at [b, i, j] where i clearly wins against j."""
    wins = win_rates(rewards, valid)
    winners = (wins >= self.least_win_rate) | only(best_response(rewards, valid), valid)
    clear = wins[:, :, None] - wins[:, None, :] >= self.least_margin
    return pairs_from_scores(rewards, valid) & winners[:, :, None] & clear
