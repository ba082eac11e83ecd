"""A regulariser of a reward model's hidden states: its decoder goes on to speak."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.apo import ScoredRewards
from apo_jax.objectives.ranges import NonNegativeFloat, PositiveFloat
from apo_jax.objectives.reward_term import RankedData, RewardTerm
from apo_jax.objectives.selection import pairs_from_scores
from apo_jax.objectives.sums import Sums


@dataclasses.dataclass(frozen=True)
class GRM(RewardTerm):
  """The text-generation regularisation of GRM (arXiv 2406.10216).

      kind "sft":             -log sigmoid(beta * log pi_LM(y_c | x))
      kind "sft_no_sigmoid":  -log pi_LM(y_c | x)
      kind "dpo":             -log sigmoid(beta * (log pi_LM(y_c | x) - log pi_LM(y_r | x)))

  pi_LM is the reward model's decoder with its language-model head, and its log-probability is
  summed over what the reward model reads of a response, its end included. "sft" kinds are means
  over chosen responses y_c, "dpo", which has no reference, over pairs of a chosen and a rejected
  one. Some tokens suffice for beta * log pi_LM to be far below 0, where log sigmoid is linear:
  there "sft" is beta times "sft_no_sigmoid".

  The paper's loss is (1 - a) L_rank + a L_reg with a = 0.01: `coefficient` is a, and 1 - a is to
  stand in `APO.preference_coefficient`, as 0.99. Where it stays 1 the loss is the paper's over
  1 - a, of another a.

  Sure: the equations are those of the authors' code (YangRui2015/Generalizable-Reward-Model, commit
  3c31be2, `compute_loss`). Ours: golden responses, and preferences of more than two responses.

  Attributes:
    coefficient: the weight of the term's mean in the loss, the paper's a.
    kind: the form of the term.
    data: what responses are chosen from: of human preferences those of the highest score, where
      another has a lower one; the golden responses; or both, in one mean.
    beta: per nat.
  """

  name: ClassVar[str] = "grm"
  needs_logprobs: ClassVar[bool] = True
  coefficient: NonNegativeFloat = 0.01
  kind: Literal["sft", "sft_no_sigmoid", "dpo"] = "sft"
  data: Literal["preferences", "golden", "both"] = "preferences"
  beta: PositiveFloat = 0.1

  def logprobs_read(
    self, data: RankedData, scores: Float[Array, "B R"]
  ) -> Bool[Array, "B R"] | None:
    """Returns the chosen responses, for "dpo" the rejected ones too; None of data not its own."""
    if self.data not in (data, "both"):
      return None
    return scores >= 0 if self.kind == "dpo" else _chosen(data, scores)

  def __call__(self, rewards: ScoredRewards) -> Sums:
    """Returns the sums; the metric is `logprob` of chosen responses, or for "dpo" the `margin`."""
    sums = Sums(jnp.zeros(()), jnp.zeros(()), {self._metric: jnp.zeros(())})
    parts: list[tuple[RankedData, Array | None, Array | None]] = [
      ("preferences", rewards.preference_scores, rewards.preference_logprobs),
      ("golden", rewards.golden_scores, rewards.golden_logprobs),
    ]
    for data, scores, logprobs in parts:
      if scores is not None and self.data in (data, "both"):
        part = self._of_pairs if self.kind == "dpo" else self._of_chosen
        sums = jax.tree.map(jnp.add, sums, part(data, scores, logprobs))
    if self.kind == "dpo" and self.data != "preferences" and rewards.golden_twins is not None:
      # As in the golden term: a sample that is the golden response divides, and moves nothing.
      sums = sums._replace(count=sums.count + jnp.sum(rewards.golden_twins))
    return sums

  @property
  def _metric(self) -> str:
    return "margin" if self.kind == "dpo" else "logprob"

  def _of_chosen(
    self, data: RankedData, scores: Float[Array, "B R"], logprobs: Float[Array, "B R"]
  ) -> Sums:
    chosen = _chosen(data, scores)
    # Masked before the loss as well as after it, so that padding cannot reach the gradient.
    logprobs = jnp.where(chosen, logprobs, 0.0)
    losses = -logprobs if self.kind == "sft_no_sigmoid" else self._unlikely(logprobs)
    total = jnp.sum(jnp.where(chosen, losses, 0.0))
    return Sums(total, jnp.sum(chosen, dtype=jnp.float32), {self._metric: jnp.sum(logprobs)})

  def _of_pairs(
    self, data: RankedData, scores: Float[Array, "B R"], logprobs: Float[Array, "B R"]
  ) -> Sums:
    del data
    pairs = pairs_from_scores(scores, scores >= 0)
    margins = jnp.where(pairs, logprobs[:, :, None] - logprobs[:, None, :], 0.0)
    total = jnp.sum(jnp.where(pairs, self._unlikely(margins), 0.0))
    return Sums(total, jnp.sum(pairs, dtype=jnp.float32), {self._metric: jnp.sum(margins)})

  def _unlikely(self, nats: Float[Array, "..."]) -> Float[Array, "..."]:
    return -jax.nn.log_sigmoid(self.beta * nats)


def _chosen(data: RankedData, scores: Float[Array, "B R"]) -> Bool[Array, "B R"]:
  """Responses of the highest score. A preference needs a lower one, a golden response does not."""
  there = scores >= 0
  highest = jnp.max(jnp.where(there, scores, -jnp.inf), axis=1, keepdims=True)
  chosen = there & (scores == highest)
  if data == "preferences":
    chosen &= jnp.any(there & (scores < highest), axis=1, keepdims=True)
  return chosen
