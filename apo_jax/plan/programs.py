"""The programs of a round with abstract arguments: shapes, types and shardings, no arrays."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax.stages import Lowered

from apo_jax.config.schema import SamplerConfig
from apo_jax.data.input import bucket_of
from apo_jax.inference.sampler import STEPS_A_CALL
from apo_jax.inference.scoring import Scorer
from apo_jax.models import model_flops
from apo_jax.models.architecture import Architecture
from apo_jax.models.definition import Definition
from apo_jax.phases.batches import (
  golden_layout,
  golden_rows,
  preference_layout,
  preference_rows,
  sample_batch,
  sample_layout,
)
from apo_jax.plan.round_work import PREFERENCE_RESPONSES, RoundWork
from apo_jax.policy_step import PolicyBatch, make_policy_update
from apo_jax.reward_step import RewardBatch, make_reward_update
from apo_jax.rows.layouts import RowLayout
from apo_jax.run.context import RunContext
from apo_jax.run.starts import share_frozen
from apo_jax.training.optimization import Update, abstract_state, make_optimizer


@dataclasses.dataclass(frozen=True)
class Program:
  """One jitted function of a round, at its largest shapes.

  Attributes:
    name: what it does.
    calls: how often a round calls it.
    lower: traces it; called with the mesh set.
    flops: of one call on all devices, as the model asks for them (`model_flops`).
    longest_loop: how often a loop runs that may end early, at most.
    kept: bytes a device of parameters that are in memory beside its arguments.
    rows_field: the config field that says how many rows a call has.
    accumulation: the same of its micro-batches; None where there are none.
  """

  name: str
  calls: int
  lower: Callable[[], Lowered]
  flops: float
  longest_loop: int
  kept: float
  rows_field: str
  accumulation: str | None = None


def programs(run: RunContext, work: RoundWork) -> list[Program]:
  """The programs that a round calls, in its order."""
  sampling = run.config.sampling
  # The sampler has weights of its own, or reads those of training.
  beside_sampler = _resident(run, run.policy) if run.sampler.form.changes else 0.0
  policy = reward = 0.0
  if not run.config.memory.park_idle_player:
    policy, reward = _resident(run, run.policy), _resident(run, run.reward_model)
  beside_sampler += reward
  longest = run.row_lengths[-1]
  judged = run.config.data.query_length + sampling.evaluation.max_new_tokens + 1
  samples, judged_samples = sampling.training.num_samples, sampling.evaluation.num_samples

  def reward_scores(name: str, calls: int, num_responses: int, length: int) -> Program:
    return _scores(run, name, calls, run.reward_scorer, False, num_responses, length, policy)

  def logprob_scores(name: str, calls: int, num_responses: int, length: int) -> Program:
    return _scores(run, name, calls, run.logprob_scorer, True, num_responses, length, reward)

  listed = [
    *_sampling(run, "sample", work.sampled_queries, sampling.training, beside_sampler),
    _reward_update(run, work.reward_updates, policy + reward),
    reward_scores("score rewards", work.reward_scores, samples, longest),
    logprob_scores("score logprobs", work.logprob_scores, samples, longest),
    _policy_update(run, work.policy_updates, policy + reward),
    *_sampling(run, "evaluate", work.evaluated_queries, sampling.evaluation, beside_sampler),
    # A golden response is judged beside them.
    reward_scores("evaluate rewards", work.evaluation_reward_scores, judged_samples + 1, judged),
    logprob_scores("evaluate logprobs", work.evaluation_logprob_scores, judged_samples, judged),
  ]
  return [program for program in listed if program.calls]


def device_bytes(tree: Any) -> float:
  """Bytes that one device holds of abstract arrays with shardings."""
  total = 0
  for leaf in jax.tree.leaves(tree):
    total += int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
  return float(total)


def _resident(run: RunContext, definition: Definition) -> float:
  """Bytes a device of a player's parameters that the other player does not share."""
  shares = share_frozen(run.origins, run.policy, run.reward_model)
  return device_bytes(definition.trained if shares else definition.abstract)


def _sampling(
  run: RunContext, name: str, queries: int, config: SamplerConfig, kept: float
) -> list[Program]:
  """Reading queries, and some steps of decoding a batch that stays full to its last token."""
  size, width = run.config.sampling.batch_size, run.config.data.query_buckets[-1]
  samples, tokens = config.num_samples, config.max_new_tokens
  start_size = run.sampler.start_size
  batches, calls = math.ceil(queries / size), math.ceil((tokens - 1) / STEPS_A_CALL)
  architecture = run.origins.policy
  lowered = functools.cache(lambda: run.sampler.lowered(config, width))
  read = Program(
    f"{name}: read",
    math.ceil(queries / start_size),
    lambda: lowered()[0],
    model_flops.forward_flops(architecture, start_size, width, logits=1),
    1,
    kept,
    "config.sampling.batch_size",
  )
  decoding = model_flops.decoding_flops(architecture, size, width, samples, tokens)
  decode = Program(
    f"{name}: {STEPS_A_CALL} tokens",
    batches * calls,
    lambda: lowered()[1],
    decoding / max(calls, 1),
    STEPS_A_CALL,
    kept,
    "config.sampling.batch_size",
  )
  return [read, decode]


def _scores(
  run: RunContext,
  name: str,
  calls: int,
  scorer: Scorer,
  logits: bool,
  num_responses: int,
  length: int,
  kept: float,
) -> Program:
  """Scoring of queries with so many responses, which alone in a row have `length` tokens."""
  query_length = run.config.data.query_length
  layout = scorer.layout(num_responses)
  needed = query_length + layout.num_responses * (length - query_length)
  bucket = bucket_of(needed, layout.lengths)
  architecture = run.origins.policy if logits else run.origins.reward
  flops = _forward_flops(run, architecture, layout, bucket, scorer.rows_a_call(layout), logits)
  lower = functools.partial(scorer.lowered, layout, bucket)
  return Program(name, calls, lower, flops, 1, kept, "config.evaluation.batch_size")


def _forward_flops(
  run: RunContext,
  architecture: Architecture,
  layout: RowLayout,
  bucket: int,
  items: int,
  logits: bool,
) -> float:
  """Of a forward pass over a batch, with logits of the responses alone or of nothing."""
  length, query_length = layout.lengths[bucket], run.config.data.query_length
  responses = length - query_length
  rows = items if layout.shared else items * layout.num_responses
  held = layout.num_responses if layout.shared else 1
  pairs = model_flops.seen_pairs(query_length, held, responses / held)
  return model_flops.forward_flops(architecture, rows, length, responses if logits else 0, pairs)


def _reward_update(run: RunContext, calls: int, kept: float) -> Program:
  config = run.config.reward
  layout, apo_layout = preference_layout(run, PREFERENCE_RESPONSES), golden_layout(run)
  size, apo_size = config.preference_batch_size, config.training.batch_size
  batch = RewardBatch(*preference_rows(run, layout, [None] * size, -1))
  forward = _forward_flops(run, run.origins.reward, layout, -1, size, False)
  if config.update == "adversarial":
    golden = golden_rows(run, apo_layout, [None] * apo_size, -1)
    batch = RewardBatch(*batch[:2], *golden)
    forward += _forward_flops(run, run.origins.reward, apo_layout, -1, apo_size, False)

  def lower() -> Lowered:
    optimizer = make_optimizer(config.training, calls)
    update = make_reward_update(
      run.reward_model,
      optimizer,
      config,
      run.mesh,
      num_samples=run.config.sampling.training.num_samples,
      accumulation=config.training.accumulation,
    )
    return _lower_update(run.reward_model, optimizer, update, batch)

  flops = model_flops.training_flops(forward, adapters=run.reward_model.lora is not None)
  path = "config.reward.training"
  return Program(
    "reward step", calls, lower, flops, 1, kept, f"{path}.batch_size", f"{path}.accumulation"
  )


def _policy_update(run: RunContext, calls: int, kept: float) -> Program:
  config = run.config.policy
  layout, size = sample_layout(run), config.training.batch_size
  batch: PolicyBatch = sample_batch(run, layout, [None] * size, -1)

  def lower() -> Lowered:
    optimizer = make_optimizer(config.training, calls)
    accumulation = config.training.accumulation
    update = make_policy_update(run.policy, optimizer, config, run.mesh, accumulation=accumulation)
    return _lower_update(run.policy, optimizer, update, batch)

  forward = _forward_flops(run, run.origins.policy, layout, -1, size, True)
  flops = model_flops.training_flops(forward, adapters=run.policy.lora is not None)
  path = "config.policy.training"
  return Program(
    "policy step", calls, lower, flops, 1, kept, f"{path}.batch_size", f"{path}.accumulation"
  )


def _lower_update(
  definition: Definition, optimizer: optax.GradientTransformation, update: Update, batch: Any
) -> Lowered:
  state = abstract_state(definition, optimizer)
  arguments = [state, _abstract(batch)]
  if definition.lora is not None:
    arguments += [
      definition.split(definition.abstract)[1],
      jax.ShapeDtypeStruct((2,), np.uint32),
    ]
  return update.lower(*arguments)


def _abstract(batch: Any) -> Any:
  return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), batch)
