"""The min player's jitted update: the reward model against the policy's samples."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from apo_jax.config.schema import RewardConfig
from apo_jax.models.definition import Definition, Parameters, join
from apo_jax.models.reward_model import RewardModel
from apo_jax.objectives import apo_reward_loss, apo_reward_normalizers, pairs_from_scores
from apo_jax.rows.reading import as_sequences
from apo_jax.rows.rows import Rows
from apo_jax.training.optimization import (
  Metrics,
  TrainState,
  accumulate_gradients,
  apply_gradients,
  jit_update,
)


class RewardBatch(NamedTuple):
  """One update's data.

  Attributes:
    preferences: human preferences D_P, in separate rows [B, R, T] or shared ones [B, T].
    preference_scores: Float[B, R]; the higher is preferred, below 0 marks padding.
    apo: D_APO, each golden response followed by the policy's samples, in separate rows
      [C, 1 + S, T] or shared ones [C, T]; None where only preferences are trained on.
    apo_scores: Float[C, 1 + S]: 1 for the golden response, 0 for samples, below 0 for padding.
  """

  preferences: Rows
  preference_scores: Float[Array, "B R"]
  apo: Rows | None = None
  apo_scores: Float[Array, "C K"] | None = None


RewardUpdate = Callable[[TrainState, RewardBatch, Parameters, Array], tuple[TrainState, Metrics]]


def make_reward_update(
  definition: Definition,
  optimizer: optax.GradientTransformation,
  config: RewardConfig,
  mesh: Mesh,
  *,
  num_samples: int,
  accumulation: int,
) -> RewardUpdate:
  """The jitted `state, metrics = reward_update(state, batch, frozen, key)` (`jit_update`).

  The loss is L_RM = c_apo L_rank(D_APO) / S + c_kl L_rank(D_P) (arXiv 2311.08045). Metrics, each
  a mean over the pairs of its kind in the batch: `loss` and its terms `preference_loss` and
  `apo_loss` (over their denominators), `preference_margin` and `preference_accuracy` (chosen
  against rejected), `golden_margin` and `golden_accuracy` (golden against sample),
  `gradient_norm`.
  """

  def update(
    state: TrainState, batch: RewardBatch, frozen: Parameters, dropout_key: Array | None
  ) -> tuple[TrainState, Metrics]:
    preference_scores, apo_scores = batch.preference_scores, _apo_scores(batch)
    normalizers = apo_reward_normalizers(preference_scores, apo_scores, config.reduction)
    counts = apo_reward_normalizers(preference_scores, apo_scores, "mean")

    def loss(
      trained: Parameters, micro: RewardBatch, key: Array | None
    ) -> tuple[Float[Array, ""], Metrics]:
      reward_model = definition.bind(join(trained, frozen))
      preference_rewards, apo_rewards = _rewards(reward_model, micro, key)
      value, terms = apo_reward_loss(
        preference_rewards,
        micro.preference_scores,
        apo_rewards,
        _apo_scores(micro),
        num_samples=num_samples,
        apo_coefficient=config.apo_coefficient,
        preference_coefficient=config.preference_coefficient,
        kind=config.kind,
        reduction=config.reduction,
        normalizers=normalizers,
      )
      metrics = terms | _pair_metrics(
        "preference", preference_rewards, micro.preference_scores, counts[0]
      )
      if micro.apo is None:
        del metrics["apo_loss"]
      else:
        metrics |= _pair_metrics("golden", apo_rewards, micro.apo_scores, counts[1])
      return value, metrics

    gradients, metrics = accumulate_gradients(
      loss, state.parameters, batch, accumulation, dropout_key
    )
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    return apply_gradients(state, gradients, optimizer), metrics

  return jit_update(update, definition, optimizer, mesh)


def _apo_scores(batch: RewardBatch) -> Float[Array, "C K"]:
  return jnp.zeros((0, 2)) if batch.apo_scores is None else batch.apo_scores


def _rewards(
  reward_model: RewardModel, batch: RewardBatch, dropout_key: Array | None
) -> tuple[Float[Array, "B R"], Float[Array, "C K"]]:
  """Both data's rewards, from one forward pass where their rows are of one length."""
  shape = batch.preference_scores.shape
  rows, held = as_sequences(batch.preferences, shape[1])

  def read(rows: Rows, held: int, key: Array | None) -> Float[Array, "N held"]:
    return reward_model(*rows[:3], held, dropout_key=key)

  if batch.apo is None:
    return read(rows, held, dropout_key).reshape(shape), jnp.zeros((0, 2))
  apo_shape = batch.apo_scores.shape
  apo_rows, apo_held = as_sequences(batch.apo, apo_shape[1])
  if rows.tokens.shape[1] != apo_rows.tokens.shape[1]:
    keys = (None, None) if dropout_key is None else jax.random.split(dropout_key)
    preferences, apo = read(rows, held, keys[0]), read(apo_rows, apo_held, keys[1])
    return preferences.reshape(shape), apo.reshape(apo_shape)
  count = rows.tokens.shape[0]
  both = Rows(*(jnp.concatenate(pair) for pair in zip(rows, apo_rows, strict=True)))
  rewards = read(both, max(held, apo_held), dropout_key)
  preferences, apo = rewards[:count, :held], rewards[count:, :apo_held]
  return preferences.reshape(shape), apo.reshape(apo_shape)


def _pair_metrics(
  name: str, rewards: Float[Array, "B R"], scores: Float[Array, "B R"], count: Float[Array, ""]
) -> Metrics:
  """Mean margin and accuracy (ties count half) over the preferred pairs."""
  pairs = pairs_from_scores(scores, scores >= 0)
  margins = rewards[:, :, None] - rewards[:, None, :]
  right = (1.0 + jnp.sign(margins)) / 2
  return {
    f"{name}_margin": jnp.sum(jnp.where(pairs, margins, 0.0)) / count,
    f"{name}_accuracy": jnp.sum(jnp.where(pairs, right, 0.0)) / count,
  }
