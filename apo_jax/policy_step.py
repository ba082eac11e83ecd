"""The max player's jitted update: the policy on its own scored samples."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from apo_jax.models.decoder import Decoder
from apo_jax.models.definition import Definition
from apo_jax.models.logprobs import SaidOfRows, say_of_rows
from apo_jax.objectives import PolicyLoss, ScoredResponses, Sums, mean
from apo_jax.rows.reading import as_sequences, sum_by_response
from apo_jax.rows.rows import Rows
from apo_jax.training.update import LossParts, Metrics, Update, make_update


class PolicyBatch(NamedTuple):
  """One update's data.

  Attributes:
    rows: R responses a query, in separate rows [B, R, T] or shared ones [B, T].
    rewards: Float[B, R], by the reward model, shaped where a config says so.
    reference_logprobs: Float[B, R], log pi_ref(y|x), summed over drawn tokens; None where the
      responses are demonstrations, which have no reference and no rewards.
    valid: Bool[B, R], False on padding and empty responses.
    golden: Bool[B, R], True at golden responses; None where only samples are read.
    earlier_logprobs: Float[B, R], as `reference_logprobs` under the policy of a round before; None
      where no loss reads it.
  """

  rows: Rows
  rewards: Float[Array, "B R"]
  reference_logprobs: Float[Array, "B R"] | None
  valid: Bool[Array, "B R"]
  golden: Bool[Array, "B R"] | None = None
  earlier_logprobs: Float[Array, "B R"] | None = None


def make_policy_update(
  definition: Definition,
  optimizer: optax.GradientTransformation,
  loss: PolicyLoss,
  mesh: Mesh,
  *,
  accumulation: int = 1,
) -> Update:
  """The function `state, metrics = policy_update(state, batch, frozen, key)`; see `make_update`.

  Metrics: `loss` and what the loss reports; `log_ratio`, the mean of log pi(y|x) - log pi_ref(y|x)
  over the batch's responses, and `reward`, their mean reward, where there is a reference;
  `response_length` in drawn tokens; `gradient_norm`.
  """
  parts = policy_loss_parts(loss)
  return make_update(parts, definition, optimizer, mesh, accumulation=accumulation)


def policy_loss_parts(loss: PolicyLoss) -> LossParts:
  """What the policy's loss is made of: of a `PolicyBatch`, by what a decoder says of it."""

  def said(policy: Decoder, batch: PolicyBatch, dropout_key: Array | None) -> SaidOfRows:
    shape = batch.valid.shape
    rows, held = as_sequences(batch.rows, shape[1])
    found = say_of_rows(
      policy, rows, held, with_queries=loss.reads_query_embeddings, dropout_key=dropout_key
    )
    embeddings = found.query_embeddings
    if embeddings is not None:
      # Separate rows of a query all begin with it; the first is always filled.
      embeddings = embeddings.reshape(shape[0], -1, embeddings.shape[-1])[:, 0]
    return SaidOfRows(found.drawn.reshape(shape), found.imitated.reshape(shape), embeddings)

  def measure(said: SaidOfRows, batch: PolicyBatch) -> dict[str, Sums]:
    rows, held = as_sequences(batch.rows, batch.valid.shape[1])
    masks = rows.response_mask, rows.response_mask | rows.ends
    lengths, imitated_lengths = (
      sum_by_response(mask, rows.segment_ids, held).reshape(batch.valid.shape) for mask in masks
    )
    responses = ScoredResponses(
      logprobs=said.drawn,
      reference_logprobs=batch.reference_logprobs,
      lengths=lengths,
      rewards=batch.rewards,
      valid=batch.valid,
      imitated_logprobs=said.imitated,
      imitated_lengths=imitated_lengths,
      golden=batch.golden,
      earlier_logprobs=batch.earlier_logprobs,
      query_embeddings=said.query_embeddings,
    )
    return {"loss": loss(responses), "responses": _describe(responses)}

  def combine(
    totals: dict[str, Array], counts: dict[str, Array], gathered: None
  ) -> tuple[Array, Metrics]:
    del gathered
    return mean(totals["loss"], counts["loss"]), {}

  return LossParts(said, measure, combine)


def _describe(responses: ScoredResponses) -> Sums:
  """What the responses are like, whatever the loss is: sums over them."""

  def over(values: Array) -> Float[Array, ""]:
    return jnp.sum(jnp.where(responses.valid, values, 0.0))

  metrics = {"response_length": over(responses.lengths)}
  if responses.reference_logprobs is not None:
    metrics |= {
      "log_ratio": over(responses.logprobs - responses.reference_logprobs),
      "reward": over(responses.rewards),
    }
  return Sums(jnp.zeros(()), jnp.sum(responses.valid, dtype=jnp.float32), metrics)
