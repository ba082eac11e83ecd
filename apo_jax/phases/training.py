"""The phases that train a player: what each starts from and what its batches hold."""

import dataclasses
import functools
from collections.abc import Sequence

import optax

from apo_jax.config.schema import Config, PolicyConfig, TrainingConfig
from apo_jax.data.input import num_batches
from apo_jax.data.records import Preference
from apo_jax.data.samples import read_samples
from apo_jax.devices.sharding import place_batch
from apo_jax.logs.run_directory import GOLDEN_SAMPLES, POLICY_SAMPLES
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
from apo_jax.run.models import Models
from apo_jax.run.players import Player
from apo_jax.run.run import Run
from apo_jax.run.seeds import derive_seed
from apo_jax.run.starts import first_policy, first_reward


def train_supervised(run: Run) -> None:
  """The policy's start: maximum likelihood on the demonstrations."""
  training = run.config.supervised
  # Imitation is rejection sampling with one candidate a query.
  imitation = dataclasses.replace(run.config.policy, method="rjs", training=training)
  records = run.data.demonstrations if training.epochs else ()
  layout = demonstration_layout(run.models)
  size, epochs = training.batch_size, training.epochs
  items = functools.partial(demonstration_items, run.codec)
  stream = make_stream(
    run.models.mesh, _order(run, 0, "supervised"), records, layout, items, size, epochs
  )
  plan = TrainingPlan(
    player=run.players.policy_after(0),
    started_from=run.config.model.checkpoint or "random weights",
    definition=run.models.policy,
    training=training,
    num_steps=stream.num_batches,
    schedule_steps=stream.most_batches,
    start=lambda: first_policy(
      run.models.origins, run.models.policy, derive_seed(run.config.seed, "init", "policy")
    ),
    make_update=functools.partial(_policy_update, run.models, imitation),
    build=lambda step: demonstration_batch(run.codec, layout, *stream.take(step)),
    place=lambda batch: place_batch(run.models.mesh, batch, size),
  )
  carry_out(run, plan)


def train_reward_base(run: Run) -> None:
  """The reward model's base, on the preferences of the reward side alone."""
  _train_on_preferences(run, run.players.reward_after(0), run.data.reward.preferences)


def train_testing_reward(run: Run) -> None:
  """The judge: a reward model on both players' preferences, never used in training a policy."""
  preferences = (*run.data.reward.preferences, *run.data.policy.preferences)
  _train_on_preferences(run, run.players.testing_reward, preferences)


def _train_on_preferences(run: Run, player: Player, preferences: Sequence[Preference]) -> None:
  training = run.config.reward.base
  layout = preference_layout(run.models, most_responses(preferences))
  size, epochs = training.batch_size, training.epochs
  items = functools.partial(preference_items, run.codec)
  stream = make_stream(
    run.models.mesh, _order(run, 0, player.phase), preferences, layout, items, size, epochs
  )

  def start() -> Parameters:
    supervised = run.parameters.of(run.players.policy_after(0))
    seed = derive_seed(run.config.seed, "init", player.phase)
    return first_reward(run.models.origins, run.models.policy, run.models.reward, supervised, seed)

  def build(step: int) -> RewardBatch:
    return RewardBatch(*preference_rows(run.codec, layout, *stream.take(step)))

  plan = TrainingPlan(
    player=player,
    started_from=_origin_of_rewards(run),
    definition=run.models.reward,
    training=training,
    num_steps=stream.num_batches,
    schedule_steps=stream.most_batches,
    start=start,
    make_update=functools.partial(_reward_update, run.models, run.config, training),
    build=build,
    place=lambda batch: place_batch(run.models.mesh, batch, size),
  )
  carry_out(run, plan)


def _origin_of_rewards(run: Run) -> str:
  """What a reward model starts from before the first round."""
  if run.config.reward.checkpoint:
    return run.config.reward.checkpoint
  adapted = run.models.reward.lora is not None
  return run.config.model.checkpoint if adapted else run.players.policy_after(0).name


def train_reward(run: Run, round: int) -> None:
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
  layout = preference_layout(run.models, most_responses(preferences))
  endless = make_stream(
    run.models.mesh,
    _order(run, round, "reward_preferences"),
    preferences,
    layout,
    functools.partial(preference_items, run.codec),
    size,
    None,
  )
  adversarial = config.update == "adversarial"
  if adversarial:
    sampled = read_samples(run.directory.round(round) / GOLDEN_SAMPLES)
    apo_layout = golden_layout(run.models, run.config)
    stream = make_stream(
      run.models.mesh,
      _order(run, round, "reward_golden"),
      sampled,
      apo_layout,
      functools.partial(golden_items, run.codec),
      training.batch_size,
      training.epochs,
    )
    num_steps, schedule_steps = stream.num_batches, stream.most_batches

  def build(step: int) -> RewardBatch:
    records, bucket = endless.take(step)
    if not adversarial:
      return RewardBatch(*preference_rows(run.codec, layout, records, bucket))
    golden, golden_bucket = stream.take(step)
    # Both take the longer bucket, so that there are as many compiled steps as buckets.
    bucket = max(bucket, golden_bucket)
    apo = golden_rows(run.codec, apo_layout, golden, bucket)
    return RewardBatch(*preference_rows(run.codec, layout, records, bucket), *apo)

  def place(batch: RewardBatch) -> RewardBatch:
    placed = RewardBatch(*place_batch(run.models.mesh, batch[:2], size))
    if not adversarial:
      return placed
    apo, apo_scores = place_batch(run.models.mesh, batch[2:], training.batch_size)
    return placed._replace(apo=apo, apo_scores=apo_scores)

  plan = TrainingPlan(
    player=run.players.reward_after(round),
    started_from=run.players.reward_start(round).name,
    definition=run.models.reward,
    training=training,
    num_steps=num_steps,
    schedule_steps=schedule_steps,
    start=lambda: run.models.reward.split(run.parameters.of(run.players.reward_start(round)))[0],
    make_update=functools.partial(_reward_update, run.models, run.config, training),
    build=build,
    place=place,
  )
  carry_out(run, plan)


def train_policy(run: Run, round: int) -> None:
  """The max player's step, on the round's scored samples."""
  config = run.config.policy
  training = config.training
  sampled = read_samples(run.directory.round(round) / POLICY_SAMPLES)
  layout = sample_layout(run.models, run.config)
  size, epochs = training.batch_size, training.epochs
  items = functools.partial(sample_items, config, run.codec)
  stream = make_stream(
    run.models.mesh, _order(run, round, "policy"), sampled, layout, items, size, epochs
  )
  plan = TrainingPlan(
    player=run.players.policy_after(round),
    started_from=run.players.policy_start(round).name,
    definition=run.models.policy,
    training=training,
    num_steps=stream.num_batches,
    schedule_steps=stream.most_batches,
    start=lambda: run.models.policy.split(run.parameters.of(run.players.policy_start(round)))[0],
    make_update=functools.partial(_policy_update, run.models, config),
    build=lambda step: sample_batch(config, run.codec, layout, *stream.take(step)),
    place=lambda batch: place_batch(run.models.mesh, batch, size),
  )
  carry_out(run, plan)


def _order(run: Run, round: int, purpose: str) -> int:
  """The seed of the order in which a phase takes its records."""
  return derive_seed(run.config.seed, "shuffle", round, purpose)


# All rounds share a compiled step.
@functools.lru_cache
def _policy_update(
  models: Models, config: PolicyConfig, optimizer: optax.GradientTransformation
) -> PolicyUpdate:
  accumulation = config.training.accumulation
  return make_policy_update(
    models.policy, optimizer, config, models.mesh, accumulation=accumulation
  )


@functools.lru_cache
def _reward_update(
  models: Models,
  config: Config,
  training: TrainingConfig,
  optimizer: optax.GradientTransformation,
) -> RewardUpdate:
  return make_reward_update(
    models.reward,
    optimizer,
    config.reward,
    models.mesh,
    num_samples=config.sampling.training.num_samples,
    accumulation=training.accumulation,
  )
