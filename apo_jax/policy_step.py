"""The max player's jitted update: the policy on its own scored samples."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from apo_jax.config.schema import PolicyConfig
from apo_jax.models.definition import Definition, Parameters, join
from apo_jax.models.logprobs import sequence_logprobs
from apo_jax.objectives import (
  count_queries,
  dpo_loss,
  pairs_from_scores,
  rjs_loss,
  rrhf_loss,
)
from apo_jax.rows.reading import as_sequences, sum_by_response
from apo_jax.rows.rows import Rows
from apo_jax.training.optimization import (
  Metrics,
  TrainState,
  accumulate_gradients,
  apply_gradients,
  jit_update,
)


class PolicyBatch(NamedTuple):
  """One update's data.

  Attributes:
    rows: R responses a query, in separate rows [B, R, T] or shared ones [B, T].
    rewards: Float[B, R], by the reward model.
    reference_logprobs: Float[B, R], log pi_ref(y|x), summed over the response; None where the
      responses are demonstrations, which have no reference and no rewards.
    valid: Bool[B, R], False on padding and empty responses.
  """

  rows: Rows
  rewards: Float[Array, "B R"]
  reference_logprobs: Float[Array, "B R"] | None
  valid: Bool[Array, "B R"]


PolicyUpdate = Callable[[TrainState, PolicyBatch, Parameters, Array], tuple[TrainState, Metrics]]


def make_policy_update(
  definition: Definition,
  optimizer: optax.GradientTransformation,
  config: PolicyConfig,
  mesh: Mesh,
  *,
  accumulation: int,
) -> PolicyUpdate:
  """The jitted `state, metrics = policy_update(state, batch, frozen, key)` (`jit_update`).

  `config.method` is the loss: rejection sampling, RRHF or DPO (`objectives`). Metrics: `loss` and
  the method's terms; `log_ratio`, the mean of log pi(y|x) - log pi_ref(y|x) over the batch's
  responses, and `reward`, their mean reward, where there is a reference; `response_length` in
  tokens, eos included; `gradient_norm`.
  """

  def update(
    state: TrainState, batch: PolicyBatch, frozen: Parameters, dropout_key: Array | None
  ) -> tuple[TrainState, Metrics]:
    normalizer = jnp.maximum(_count_items(batch, config), 1.0)
    responses = jnp.maximum(jnp.sum(batch.valid, dtype=jnp.float32), 1.0)

    def loss(
      trained: Parameters, micro: PolicyBatch, key: Array | None
    ) -> tuple[Float[Array, ""], Metrics]:
      policy = definition.bind(join(trained, frozen))
      shape = micro.valid.shape
      rows, held = as_sequences(micro.rows, shape[1])
      logprobs = sequence_logprobs(policy, rows, held, dropout_key=key).reshape(shape)
      lengths = sum_by_response(rows.response_mask, rows.segment_ids, held).reshape(shape)
      value, metrics = _loss(config, logprobs, lengths, micro, normalizer)

      def mean(values: Array) -> Float[Array, ""]:
        return jnp.sum(jnp.where(micro.valid, values, 0.0)) / responses

      metrics |= {"response_length": mean(lengths)}
      if micro.reference_logprobs is not None:
        metrics |= {
          "log_ratio": mean(logprobs - micro.reference_logprobs),
          "reward": mean(micro.rewards),
        }
      return value, metrics

    gradients, metrics = accumulate_gradients(
      loss, state.parameters, batch, accumulation, dropout_key
    )
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    return apply_gradients(state, gradients, optimizer), metrics

  return jit_update(update, definition, optimizer, mesh)


def _count_items(batch: PolicyBatch, config: PolicyConfig) -> Float[Array, ""]:
  """What the loss is a mean over: pairs for DPO, queries otherwise."""
  if config.method == "dpo":
    pairs = pairs_from_scores(batch.rewards, batch.valid, config.pairs)
    return jnp.sum(pairs, dtype=jnp.float32)
  return count_queries(batch.valid)


def _loss(
  config: PolicyConfig,
  logprobs: Float[Array, "B R"],
  lengths: Array,
  batch: PolicyBatch,
  normalizer: Float[Array, ""],
) -> tuple[Float[Array, ""], Metrics]:
  if config.method == "rjs":
    return rjs_loss(logprobs, batch.rewards, batch.valid, normalizer=normalizer), {}
  if config.method == "rrhf":
    return rrhf_loss(
      logprobs,
      lengths,
      batch.rewards,
      batch.valid,
      sft_coefficient=config.sft_coefficient,
      normalizer=normalizer,
    )
  return dpo_loss(
    logprobs,
    batch.reference_logprobs,
    batch.rewards,
    batch.valid,
    beta=config.beta,
    pairs=config.pairs,
    normalizer=normalizer,
  )
