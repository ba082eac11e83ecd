"""The min player's jitted update: the reward model against the policy's samples."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from apo_jax.models.definition import Definition
from apo_jax.models.reward_model import Judged, RewardModel
from apo_jax.objectives import (
  APO,
  FixedWeights,
  RewardTerm,
  ScoredRewards,
  Sums,
  Weighting,
  head_gradients,
  mean,
)
from apo_jax.objectives.reward_term import RankedData
from apo_jax.objectives.subsets import subset_sums, term_of
from apo_jax.rows.reading import as_sequences, own_slots
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
    preference_subsets: Int[B], which subset each preference belongs to; None where none are told
      apart.
  """

  preferences: Rows
  preference_scores: Float[Array, "B R"]
  golden: Rows | None = None
  golden_scores: Float[Array, "C K"] | None = None
  golden_twins: Float[Array, "C"] | None = None
  preference_subsets: Int[Array, "B"] | None = None


class JudgedBatch(NamedTuple):
  """What the reward model says of a batch.

  Attributes:
    preferences: of the human preferences, arrays [B, R].
    golden: of golden responses and samples, arrays [C, 1 + S]; None where the batch has none.
  """

  preferences: Judged
  golden: Judged | None


def make_reward_update(
  definition: Definition,
  optimizer: optax.GradientTransformation,
  loss: APO,
  mesh: Mesh,
  *,
  num_samples: int,
  terms: Sequence[RewardTerm] = (),
  weighting: Weighting = FixedWeights(),
  subsets: Sequence[str] = (),
  accumulation: int = 1,
) -> Update:
  """The function `state, metrics = reward_update(state, batch, frozen, key)`; see `make_update`.

  Minimises `loss`, for `num_samples` a golden query, and further `terms`; a `weighting` may replace
  the coefficients of `loss`, and then weighs `subsets` of preferences each by itself. Metrics:
  `loss`; its unweighted terms `preference_loss`, `golden_loss` (over their divisors) and one for
  each of `terms`; means over pairs `preference_margin` and `preference_accuracy` (chosen against
  rejected), `golden_margin` and `golden_accuracy` (golden against samples that differ from it);
  the same three of each subset, as `preference_<subset>_loss`; `<term>_weight` where the weighting
  gives them; `gradient_norm`. A batch without golden rows has no metrics of them.
  """
  parts = reward_loss_parts(
    loss,
    num_samples=num_samples,
    terms=terms,
    weighting=weighting,
    subsets=subsets,
    accumulation=accumulation,
  )
  return make_update(parts, definition, optimizer, mesh, accumulation=accumulation)


def reward_loss_parts(
  loss: APO,
  *,
  num_samples: int,
  terms: Sequence[RewardTerm] = (),
  weighting: Weighting = FixedWeights(),
  subsets: Sequence[str] = (),
  accumulation: int = 1,
) -> LossParts:
  """What the reward model's loss is made of: of a `RewardBatch`, by what the model says of it."""
  embeddings = weighting.needs_head_gradients or any(term.needs_embeddings for term in terms)
  speaking = [term for term in terms if term.needs_logprobs]

  def judge(
    reward_model: RewardModel, batch: RewardBatch, dropout_key: Array | None
  ) -> JudgedBatch:
    return _judge(reward_model, batch, dropout_key, embeddings, speaking)

  def measure(judged: JudgedBatch, batch: RewardBatch) -> dict[str, Sums]:
    scored = _scored(judged, batch)
    further = {term.name: term(scored).named(term.name) for term in terms}
    return loss(scored) | subset_sums(loss, scored, subsets) | further

  def gather(judged: JudgedBatch, batch: RewardBatch) -> tuple[dict[str, Array], dict[str, Array]]:
    scored = _scored(judged, batch)
    gradients = head_gradients(loss, scored, subsets)
    parts = loss(scored) | subset_sums(loss, scored, subsets)
    return gradients, {name: parts[name].total for name in gradients}

  def combine(
    totals: dict[str, Array],
    counts: dict[str, Array],
    gathered: tuple[dict[str, Array], dict[str, Array]] | None,
  ) -> tuple[Array, Metrics]:
    weights = None
    if gathered is not None:
      gradients, whole = (
        {name: total / jnp.maximum(counts[name], 1.0) for name, total in part.items()}
        for part in gathered
      )
      weights = weighting.weights(gradients, whole, counts)
    value, means = loss.combine(totals, counts, num_samples=num_samples)
    means |= {name: mean(totals[name], counts[name]) for name in map(term_of, subsets)}
    if weights is not None:
      value = sum(weight * means[name] for name, weight in weights.items())
    for term in terms:
      means[term.name] = mean(totals[term.name], counts[term.name])
      value += term.coefficient * means[term.name]
    metrics = {f"{name}_loss": term_mean for name, term_mean in means.items()}
    # Metrics of micro-batches are added up.
    metrics |= {f"{name}_weight": one / accumulation for name, one in (weights or {}).items()}
    return value, metrics

  return LossParts(judge, measure, combine, gather if weighting.needs_head_gradients else None)


def _scored(judged: JudgedBatch, batch: RewardBatch) -> ScoredRewards:
  """What the objectives read."""
  preferences, golden = judged
  scored = ScoredRewards(
    preferences.rewards,
    batch.preference_scores,
    preference_embeddings=preferences.embeddings,
    preference_logprobs=preferences.logprobs,
    preference_subsets=batch.preference_subsets,
  )
  if golden is None:
    return scored
  return scored._replace(
    golden=golden.rewards,
    golden_scores=batch.golden_scores,
    golden_twins=batch.golden_twins,
    golden_embeddings=golden.embeddings,
    golden_logprobs=golden.logprobs,
  )


def _judge(
  reward_model: RewardModel,
  batch: RewardBatch,
  dropout_key: Array | None,
  embeddings: bool,
  speaking: Sequence[RewardTerm],
) -> JudgedBatch:
  """Both data's rewards and what else is asked for, from one forward pass where their rows are of
  one length.
  """
  shape = batch.preference_scores.shape
  rows, held = as_sequences(batch.preferences, shape[1])
  wanted = _wanted("preferences", batch.preference_scores, rows, held, speaking)

  def read(rows: Rows, held: int, wanted: Bool[Array, "N T"] | None, key: Array | None) -> Judged:
    return reward_model.judge(
      rows, held, embeddings=embeddings, logprobs_of=wanted, dropout_key=key
    )

  if batch.golden is None:
    return JudgedBatch(_shaped(read(rows, held, wanted, dropout_key), shape), None)
  golden_shape = batch.golden_scores.shape
  golden_rows, golden_held = as_sequences(batch.golden, golden_shape[1])
  golden_wanted = _wanted("golden", batch.golden_scores, golden_rows, golden_held, speaking)
  if rows.tokens.shape[1] != golden_rows.tokens.shape[1]:
    keys = (None, None) if dropout_key is None else jax.random.split(dropout_key)
    preferences = read(rows, held, wanted, keys[0])
    golden = read(golden_rows, golden_held, golden_wanted, keys[1])
    return JudgedBatch(_shaped(preferences, shape), _shaped(golden, golden_shape))
  count = rows.tokens.shape[0]
  both = Rows(*(jnp.concatenate(pair) for pair in zip(rows, golden_rows, strict=True)))
  if wanted is not None or golden_wanted is not None:
    parts = ((wanted, rows), (golden_wanted, golden_rows))
    nothing = [jnp.zeros(of.tokens.shape, bool) if one is None else one for one, of in parts]
    wanted = jnp.concatenate(nothing)
  judged = read(both, max(held, golden_held), wanted, dropout_key)
  preferences = jax.tree.map(lambda array: array[:count, :held], judged)
  golden = jax.tree.map(lambda array: array[count:, :golden_held], judged)
  return JudgedBatch(_shaped(preferences, shape), _shaped(golden, golden_shape))


def _shaped(judged: Judged, shape: tuple[int, int]) -> Judged:
  """What was said of rows [N, held], by query and response."""
  return jax.tree.map(lambda array: array.reshape(*shape, *array.shape[2:]), judged)


def _wanted(
  data: RankedData,
  scores: Float[Array, "B R"],
  rows: Rows,
  held: int,
  terms: Sequence[RewardTerm],
) -> Bool[Array, "N T"] | None:
  """The tokens of rows [N, T] whose log-probabilities a term reads; None where none reads any.

  They are what a reward model reads of a response: an eos that stands for a stop string too.
  """
  asked = [term.logprobs_read(data, scores) for term in terms]
  asked = [one for one in asked if one is not None]
  if not asked:
    return None
  responses = functools.reduce(jnp.logical_or, asked).reshape(-1, held)
  own = own_slots(rows.segment_ids, held) & responses[..., None]
  return (rows.response_mask | rows.ends) & jnp.any(own, axis=1)
