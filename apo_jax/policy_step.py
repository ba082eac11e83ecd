"""The max player's jitted update: the policy on its own scored samples."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from apo_jax.models.decoder import Decoder
from apo_jax.models.definition import Definition
from apo_jax.models.logprobs import drawn_and_imitated_logprobs
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
  """

  rows: Rows
  rewards: Float[Array, "B R"]
  reference_logprobs: Float[Array, "B R"] | None
  valid: Bool[Array, "B R"]


# Of what was drawn, and with the end that a stop string stands for.
Logprobs = tuple[Float[Array, "B R"], Float[Array, "B R"]]


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

  def logprobs(policy: Decoder, batch: PolicyBatch, dropout_key: Array | None) -> Logprobs:
    rows, held = as_sequences(batch.rows, batch.valid.shape[1])
    found = drawn_and_imitated_logprobs(policy, rows, held, dropout_key=dropout_key)
    return tuple(one.reshape(batch.valid.shape) for one in found)

  def measure(logprobs: Logprobs, batch: PolicyBatch) -> dict[str, Sums]:
    rows, held = as_sequences(batch.rows, batch.valid.shape[1])
    masks = rows.response_mask, rows.response_mask | rows.ends
    lengths, imitated_lengths = (
      sum_by_response(mask, rows.segment_ids, held).reshape(batch.valid.shape) for mask in masks
    )
    responses = ScoredResponses(
      logprobs=logprobs[0],
      reference_logprobs=batch.reference_logprobs,
      lengths=lengths,
      rewards=batch.rewards,
      valid=batch.valid,
      imitated_logprobs=logprobs[1],
      imitated_lengths=imitated_lengths,
    )
    return {"loss": loss(responses), "responses": _describe(responses)}

  def combine(totals: dict[str, Array], counts: dict[str, Array]) -> tuple[Array, Metrics]:
    return mean(totals["loss"], counts["loss"]), {}

  return LossParts(logprobs, measure, combine)


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
