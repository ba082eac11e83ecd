"""The programs of a round with abstract arguments: shapes, types and shardings, no arrays."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.stages import Lowered

from apo_jax.config.schema import Config, SamplerConfig
from apo_jax.data.input import bucket_of
from apo_jax.data.tokens import Codec
from apo_jax.inference.sampler import STEPS_A_CALL, Sampler
from apo_jax.inference.scoring import Scorer
from apo_jax.models import model_flops
from apo_jax.models.architecture import Architecture
from apo_jax.models.definition import Definition
from apo_jax.phases.batches import (
  golden_layout,
  most_read,
  ranked_rows,
  sample_batch,
  sample_layout,
)
from apo_jax.phases.evaluation import kl_sampler
from apo_jax.plan.round_work import PREFERENCE_RESPONSES, RoundWork
from apo_jax.policy_step import make_policy_update
from apo_jax.reward_step import RewardBatch, make_reward_update
from apo_jax.rows.layouts import RowLayout
from apo_jax.run.inference import make_inference
from apo_jax.run.models import Models
from apo_jax.run.starts import share_frozen
from apo_jax.training.optimization import make_optimizer
from apo_jax.training.update import lower_update


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


def programs(config: Config, models: Models, codec: Codec, work: RoundWork) -> list[Program]:
  """The programs that a round calls, in its order."""
  sampling, inference = config.sampling, make_inference(config, models, codec)
  sampler = inference.sampler
  # The sampler has weights of its own, beside all of the policy's, or reads those of training.
  beside_sampler = device_bytes(models.policy.abstract) if sampler.form.changes else 0.0
  policy = reward = judge = 0.0
  if not config.memory.park_idle_player:
    policy, reward = _resident(models, models.policy), _resident(models, models.reward)
    judge = _resident(models, models.testing_reward)
  beside_sampler += reward
  longest, judged = models.row_lengths[-1], models.judged_length
  samples, judged_samples = sampling.training.num_samples, sampling.evaluation.num_samples
  for_kl = kl_sampler(sampling.evaluation)
  read = most_read(config) + config.policy.loss.reads_golden

  def sampled(name: str, queries: int, settings: SamplerConfig) -> list[Program]:
    return _sampling(config, models, sampler, name, queries, settings, beside_sampler)

  def reward_scores(
    name: str, calls: int, judge_calls: int, num_responses: int, length: int
  ) -> list[Program]:
    """Of the game's reward model and of the judge, in one program where they are of one model."""
    scored = functools.partial(_scores, models, num_responses=num_responses, length=length)
    ours, theirs = models.reward, models.testing_reward
    if theirs is ours:
      calls, judge_calls = calls + judge_calls, 0
    return [
      scored(name, calls, inference.reward_scorer, ours, kept=policy),
      # Either player may be beside the judge.
      scored(
        f"{name}: judge",
        judge_calls,
        inference.testing_reward_scorer,
        theirs,
        kept=max(policy, reward),
      ),
    ]

  def logprob_scores(
    name: str, calls: int, num_responses: int, length: int, kept: float
  ) -> Program:
    scorer = inference.logprob_scorer
    return _scores(models, name, calls, scorer, models.policy, num_responses, length, kept)

  listed = [
    *sampled("sample", work.sampled_queries, sampling.training),
    _reward_update(config, models, codec, work.reward_updates, policy + reward),
    *reward_scores("score rewards", work.reward_scores, work.judge_scores, samples, longest),
    logprob_scores("score logprobs", work.logprob_scores, read, longest, reward),
    _policy_update(config, models, codec, work.policy_updates, policy + reward),
    *sampled("evaluate", work.evaluated_queries, sampling.evaluation),
    *sampled("evaluate KL", work.kl_queries, for_kl),
    *reward_scores(
      "evaluate rewards",
      work.evaluation_reward_scores,
      work.evaluation_judge_scores,
      judged_samples + 1,  # a golden response is judged beside them
      judged,
    ),
    logprob_scores(
      "evaluate logprobs",
      work.evaluation_logprob_scores,
      for_kl.num_samples,
      judged,
      max(reward, judge),
    ),
  ]
  return [program for program in listed if program.calls]


def device_bytes(tree: Any) -> float:
  """Bytes that one device holds of abstract arrays with shardings."""
  total = 0.0
  for leaf in jax.tree.leaves(tree):
    bits = jax.dtypes.itemsize_bits(leaf.dtype)
    total += int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * bits / 8
  return total


def _resident(models: Models, definition: Definition) -> float:
  """Bytes a device of a player's parameters that the other player does not share."""
  shares = share_frozen(models.origins, models.policy, models.reward)
  return device_bytes(definition.trained if shares else definition.abstract)


def _sampling(
  config: Config,
  models: Models,
  sampler: Sampler,
  name: str,
  queries: int,
  settings: SamplerConfig,
  kept: float,
) -> list[Program]:
  """Reading queries, and some steps of decoding a batch that stays full to its last token."""
  size, width = config.sampling.batch_size, config.data.query_buckets[-1]
  samples, tokens = settings.num_samples, settings.max_new_tokens
  start_size = sampler.start_size
  batches, calls = math.ceil(queries / size), math.ceil((tokens - 1) / STEPS_A_CALL)
  architecture = models.origins.policy
  lowered = functools.cache(lambda: sampler.lowered(settings, width))
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
  models: Models,
  name: str,
  calls: int,
  scorer: Scorer,
  definition: Definition,
  num_responses: int,
  length: int,
  kept: float,
) -> Program:
  """Scoring of queries with so many responses, which alone in a row have `length` tokens."""
  query_length = models.query_length
  layout = scorer.layout(num_responses)
  needed = query_length + layout.num_responses * (length - query_length)
  bucket = bucket_of(needed, layout.lengths)
  architecture, logits = definition.architecture, definition is models.policy
  rows = scorer.rows_a_call(layout)
  flops = _forward_flops(query_length, architecture, layout, bucket, rows, logits)
  lower = functools.partial(scorer.lowered, layout, bucket)
  return Program(name, calls, lower, flops, 1, kept, "config.evaluation.batch_size")


def _forward_flops(
  query_length: int,
  architecture: Architecture,
  layout: RowLayout,
  bucket: int,
  items: int,
  logits: bool,
) -> float:
  """Of a forward pass over a batch, with logits of the responses alone or of nothing."""
  length = layout.lengths[bucket]
  responses = length - query_length
  rows = items if layout.shared else items * layout.num_responses
  held = layout.num_responses if layout.shared else 1
  pairs = model_flops.seen_pairs(query_length, held, responses / held)
  return model_flops.forward_flops(architecture, rows, length, responses if logits else 0, pairs)


def _reward_update(
  config: Config, models: Models, codec: Codec, calls: int, kept: float
) -> Program:
  reward, architecture = config.reward, models.origins.reward
  layout = models.row_layout(models.reward, PREFERENCE_RESPONSES)
  size, golden_size = reward.preference_batch_size, reward.training.batch_size
  batch = RewardBatch(*ranked_rows(layout, codec.eos, [None] * size, -1))
  speaks = reward.needs_language_head
  forward = _forward_flops(models.query_length, architecture, layout, -1, size, speaks)
  if reward.mode == "adversarial":
    against = golden_layout(models, config)
    golden = ranked_rows(against, codec.eos, [None] * golden_size, -1)
    batch = RewardBatch(*batch[:2], *golden)
    forward += _forward_flops(models.query_length, architecture, against, -1, golden_size, speaks)

  def lower() -> Lowered:
    optimizer = make_optimizer(reward.training, calls)
    update = make_reward_update(
      models.reward,
      optimizer,
      reward.apo,
      models.mesh,
      num_samples=config.sampling.training.num_samples,
      terms=reward.terms,
      weighting=reward.weighting,
      accumulation=reward.training.accumulation,
    )
    return lower_update(update, models.reward, optimizer, batch)

  flops = model_flops.training_flops(forward, adapters=models.reward.lora is not None)
  if reward.weighting.needs_head_gradients and reward.training.accumulation > 1:
    flops += forward  # micro-batches are read once for the weights
  path = "config.reward.training"
  return Program(
    "reward step", calls, lower, flops, 1, kept, f"{path}.batch_size", f"{path}.accumulation"
  )


def _policy_update(
  config: Config, models: Models, codec: Codec, calls: int, kept: float
) -> Program:
  policy, training = config.policy, config.policy.training
  layout, size = sample_layout(models, config), training.batch_size
  batch = sample_batch(layout, codec.eos, policy.loss, [None] * size, -1)

  def lower() -> Lowered:
    optimizer = make_optimizer(training, calls)
    update = make_policy_update(
      models.policy, optimizer, policy.loss, models.mesh, accumulation=training.accumulation
    )
    return lower_update(update, models.policy, optimizer, batch)

  forward = _forward_flops(models.query_length, models.origins.policy, layout, -1, size, True)
  flops = model_flops.training_flops(forward, adapters=models.policy.lora is not None)
  path = "config.policy.training"
  return Program(
    "policy step", calls, lower, flops, 1, kept, f"{path}.batch_size", f"{path}.accumulation"
  )
