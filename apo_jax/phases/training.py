"""The phases that train a player: what each starts from and what its batches hold."""

import dataclasses
import functools
from collections.abc import Sequence

import optax

from apo_jax.config.schema import PolicyConfig, TrainingConfig
from apo_jax.data.input import num_batches
from apo_jax.data.records import Preference
from apo_jax.data.samples import read_samples
from apo_jax.devices.sharding import place_batch
from apo_jax.models.definition import Parameters
from apo_jax.phases.batches import (
  demonstration_batch,
  demonstration_items,
  demonstration_layout,
  golden_items,
  golden_layout,
  golden_rows,
  most_responses,
  preference_items,
  preference_layout,
  preference_rows,
  sample_batch,
  sample_items,
  sample_layout,
)
from apo_jax.phases.stream import make_stream
from apo_jax.phases.training_plan import TrainingPlan, carry_out
from apo_jax.policy_step import PolicyUpdate, make_policy_update
from apo_jax.reward_step import RewardBatch, RewardUpdate, make_reward_update
from apo_jax.run.context import RunContext
from apo_jax.run.starts import first_policy, first_reward


def train_supervised(run: RunContext) -> None:
  """The policy's start: maximum likelihood on the demonstrations."""
  training = run.config.supervised
  # Imitation is rejection sampling with one candidate a query.
  imitation = dataclasses.replace(run.config.policy, method="rjs", training=training)
  records = run.data.demonstrations if training.epochs else ()
  layout = demonstration_layout(run)
  size, epochs = training.batch_size, training.epochs
  stream = make_stream(run, records, demonstration_items, layout, size, epochs, 0, "supervised")
  plan = TrainingPlan(
    round=0,
    phase="supervised",
    player=run.policy_after(0),
    started_from=run.config.model.checkpoint or "random weights",
    definition=run.policy,
    training=training,
    num_steps=stream.num_batches,
    schedule_steps=stream.most_batches,
    start=lambda: first_policy(run.origins, run.policy, run.seed("init", "policy")),
    make_update=functools.partial(_policy_update, run, imitation),
    build=lambda step: demonstration_batch(run, layout, *stream.take(step)),
    place=lambda batch: place_batch(run.mesh, batch, size),
  )
  carry_out(run, plan)


def train_reward_base(run: RunContext) -> None:
  """The reward model's base, on the preferences of the reward side alone."""
  _train_on_preferences(run, "reward_base", run.reward_after(0), run.data.reward.preferences)


def train_testing_reward(run: RunContext) -> None:
  """The judge: a reward model on both players' preferences, never used in training a policy."""
  preferences = (*run.data.reward.preferences, *run.data.policy.preferences)
  _train_on_preferences(run, "testing_reward", run.testing_reward, preferences)


def _train_on_preferences(
  run: RunContext, phase: str, player: str, preferences: Sequence[Preference]
) -> None:
  training = run.config.reward.base
  layout = preference_layout(run, most_responses(preferences))
  size, epochs = training.batch_size, training.epochs
  stream = make_stream(run, preferences, preference_items, layout, size, epochs, 0, phase)

  def start() -> Parameters:
    supervised = run.parameters(run.policy_after(0))
    seed = run.seed("init", phase)
    return first_reward(run.origins, run.policy, run.reward_model, supervised, seed)

  def build(step: int) -> RewardBatch:
    return RewardBatch(*preference_rows(run, layout, *stream.take(step)))

  plan = TrainingPlan(
    round=0,
    phase=phase,
    player=player,
    started_from=_origin_of_rewards(run),
    definition=run.reward_model,
    training=training,
    num_steps=stream.num_batches,
    schedule_steps=stream.most_batches,
    start=start,
    make_update=functools.partial(_reward_update, run, training),
    build=build,
    place=lambda batch: place_batch(run.mesh, batch, size),
  )
  carry_out(run, plan)


def _origin_of_rewards(run: RunContext) -> str:
  """What a reward model starts from before the first round."""
  if run.config.reward.checkpoint:
    return run.config.reward.checkpoint
  adapted = run.reward_model.lora is not None
  return run.config.model.checkpoint if adapted else run.policy_after(0)


def train_reward(run: RunContext, round: int) -> None:
  """The min player's step: golden responses against the policy's samples, beside preferences.

  With `reward.update = "preferences_only"` it makes as many updates on preferences alone (with
  `data.row_buckets` the game may have a partly filled batch more for each of their lengths).
  """
  config = run.config.reward
  training = config.training
  preferences = run.data.reward.preferences
  num_steps = num_batches(len(run.data.reward.golden), training.batch_size, training.epochs)
  schedule_steps = num_steps
  size = config.preference_batch_size
  layout = preference_layout(run, most_responses(preferences))
  endless = make_stream(
    run, preferences, preference_items, layout, size, None, round, "reward_preferences"
  )
  adversarial = config.update == "adversarial"
  if adversarial:
    sampled = read_samples(run.round_dir(round) / "golden_samples.jsonl")
    apo_layout = golden_layout(run)
    stream = make_stream(
      run,
      sampled,
      golden_items,
      apo_layout,
      training.batch_size,
      training.epochs,
      round,
      "reward_golden",
    )
    num_steps, schedule_steps = stream.num_batches, stream.most_batches

  def build(step: int) -> RewardBatch:
    records, bucket = endless.take(step)
    if not adversarial:
      return RewardBatch(*preference_rows(run, layout, records, bucket))
    golden, golden_bucket = stream.take(step)
    # Both take the longer bucket, so that there are as many compiled steps as buckets.
    bucket = max(bucket, golden_bucket)
    apo = golden_rows(run, apo_layout, golden, bucket)
    return RewardBatch(*preference_rows(run, layout, records, bucket), *apo)

  def place(batch: RewardBatch) -> RewardBatch:
    placed = RewardBatch(*place_batch(run.mesh, batch[:2], size))
    if not adversarial:
      return placed
    apo, apo_scores = place_batch(run.mesh, batch[2:], training.batch_size)
    return placed._replace(apo=apo, apo_scores=apo_scores)

  plan = TrainingPlan(
    round=round,
    phase="reward",
    player=run.reward_after(round),
    started_from=run.reward_start(round),
    definition=run.reward_model,
    training=training,
    num_steps=num_steps,
    schedule_steps=schedule_steps,
    start=lambda: run.reward_model.split(run.parameters(run.reward_start(round)))[0],
    make_update=functools.partial(_reward_update, run, training),
    build=build,
    place=place,
  )
  carry_out(run, plan)


def train_policy(run: RunContext, round: int) -> None:
  """The max player's step, on the round's scored samples."""
  config = run.config.policy
  training = config.training
  sampled = read_samples(run.round_dir(round) / "policy_samples.jsonl")
  layout = sample_layout(run)
  size, epochs = training.batch_size, training.epochs
  stream = make_stream(run, sampled, sample_items, layout, size, epochs, round, "policy")
  plan = TrainingPlan(
    round=round,
    phase="policy",
    player=run.policy_after(round),
    started_from=run.policy_start(round),
    definition=run.policy,
    training=training,
    num_steps=stream.num_batches,
    schedule_steps=stream.most_batches,
    start=lambda: run.policy.split(run.parameters(run.policy_start(round)))[0],
    make_update=functools.partial(_policy_update, run, config),
    build=lambda step: sample_batch(run, layout, *stream.take(step)),
    place=lambda batch: place_batch(run.mesh, batch, size),
  )
  carry_out(run, plan)


def _policy_update(
  run: RunContext, config: PolicyConfig, optimizer: optax.GradientTransformation
) -> PolicyUpdate:
  accumulation = config.training.accumulation
  return make_policy_update(run.policy, optimizer, config, run.mesh, accumulation=accumulation)


def _reward_update(
  run: RunContext, training: TrainingConfig, optimizer: optax.GradientTransformation
) -> RewardUpdate:
  return make_reward_update(
    run.reward_model,
    optimizer,
    run.config.reward,
    run.mesh,
    num_samples=run.config.sampling.training.num_samples,
    accumulation=training.accumulation,
  )
