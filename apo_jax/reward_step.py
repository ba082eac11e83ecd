"""The min player's jitted update: the reward model against the policy's samples."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from apo_jax.models.definition import Definition
from apo_jax.models.reward_model import RewardModel
from apo_jax.objectives import APO, RewardTerm, ScoredRewards, Sums, mean
from apo_jax.rows.reading import as_sequences
from apo_jax.rows.rows import Rows
from apo_jax.training.update import LossParts, Metrics, Update, make_update


class RewardBatch(NamedTuple):
  """One update's data.

  Attributes:
    preferences: human preferences D_P, in separate rows [B, R, T] or shared ones [B, T].
    preference_scores: Float[B, R]; the higher is preferred, below 0 marks padding.
    golden: D_APO, each golden response followed by the policy's samples, in separate rows
      [C, 1 + S, T] or shared ones [C, T]; None where only preferences are trained on.
    golden_scores: Float[C, 1 + S]: 1 for the golden response, 0 for samples, below 0 for padding.
    golden_twins: Float[C], samples that are the golden response itself and not in the rows; None
      where there is none.
  """

  preferences: Rows
  preference_scores: Float[Array, "B R"]
  golden: Rows | None = None
  golden_scores: Float[Array, "C K"] | None = None
  golden_twins: Float[Array, "C"] | None = None


# Rewards of preferences [B, R], and of golden responses and samples [C, 1 + S].
Rewards = tuple[Float[Array, "B R"], Float[Array, "C K"] | None]


def make_reward_update(
  definition: Definition,
  optimizer: optax.GradientTransformation,
  loss: APO,
  mesh: Mesh,
  *,
  num_samples: int,
  terms: Sequence[RewardTerm] = (),
  accumulation: int = 1,
) -> Update:
  """The function `state, metrics = reward_update(state, batch, frozen, key)`; see `make_update`.

  Minimises `loss`, for `num_samples` a golden query, and further `terms`. Metrics: `loss`; its
  unweighted terms `preference_loss`, `golden_loss` (over their divisors) and one for each of
  `terms`; means over pairs `preference_margin` and `preference_accuracy` (chosen against rejected),
  `golden_margin` and `golden_accuracy` (golden against samples that differ from it);
  `gradient_norm`. A batch without golden rows has no metrics of them.
  """
  parts = reward_loss_parts(loss, num_samples=num_samples, terms=terms)
  return make_update(parts, definition, optimizer, mesh, accumulation=accumulation)


def reward_loss_parts(
  loss: APO, *, num_samples: int, terms: Sequence[RewardTerm] = ()
) -> LossParts:
  """What the reward model's loss is made of: of a `RewardBatch`, by the rewards it gives."""

  def measure(rewards: Rewards, batch: RewardBatch) -> dict[str, Sums]:
    scored = ScoredRewards(
      rewards[0], batch.preference_scores, rewards[1], batch.golden_scores, batch.golden_twins
    )
    return loss(scored) | {term.name: term(scored).named(term.name) for term in terms}

  def combine(totals: dict[str, Array], counts: dict[str, Array]) -> tuple[Array, Metrics]:
    value, means = loss.combine(totals, counts, num_samples=num_samples)
    for term in terms:
      means[term.name] = mean(totals[term.name], counts[term.name])
      value += term.coefficient * means[term.name]
    return value, {f"{name}_loss": term_mean for name, term_mean in means.items()}

  return LossParts(_rewards, measure, combine)


def _rewards(reward_model: RewardModel, batch: RewardBatch, dropout_key: Array | None) -> Rewards:
  """Both data's rewards, from one forward pass where their rows are of one length."""
  shape = batch.preference_scores.shape
  rows, held = as_sequences(batch.preferences, shape[1])

  def read(rows: Rows, held: int, key: Array | None) -> Float[Array, "N held"]:
    return reward_model(*rows.read, held, dropout_key=key)

  if batch.golden is None:
    return read(rows, held, dropout_key).reshape(shape), None
  golden_shape = batch.golden_scores.shape
  golden_rows, golden_held = as_sequences(batch.golden, golden_shape[1])
  if rows.tokens.shape[1] != golden_rows.tokens.shape[1]:
    keys = (None, None) if dropout_key is None else jax.random.split(dropout_key)
    preferences, golden = read(rows, held, keys[0]), read(golden_rows, golden_held, keys[1])
    return preferences.reshape(shape), golden.reshape(golden_shape)
  count = rows.tokens.shape[0]
  both = Rows(*(jnp.concatenate(pair) for pair in zip(rows, golden_rows, strict=True)))
  rewards = read(both, max(held, golden_held), dropout_key)
  preferences, golden = rewards[:count, :held], rewards[count:, :golden_held]
  return preferences.reshape(shape), golden.reshape(golden_shape)
