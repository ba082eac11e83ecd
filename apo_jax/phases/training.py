"""The phases that train a player: what each starts from and what its batches hold."""

import dataclasses
import functools
from collections.abc import Sequence

import optax

from apo_jax.config.schema import Config, PolicyConfig, TrainingConfig
from apo_jax.data.input import num_batches
from apo_jax.data.records import Preference
from apo_jax.data.samples import read_samples
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
from apo_jax.phases.stream import Stream, make_stream
from apo_jax.phases.training_phase import TrainingPhase, play
from apo_jax.policy_step import PolicyUpdate, make_policy_update
from apo_jax.reward_step import RewardBatch, RewardUpdate, make_reward_update
from apo_jax.rows.layouts import RowLayout
from apo_jax.run.models import Models
from apo_jax.run.players import Player
from apo_jax.run.run import Run
from apo_jax.run.seeds import derive_seed
from apo_jax.run.starts import first_policy, first_reward


def train_supervised(run: Run) -> None:
  """The policy's start: maximum likelihood on the demonstrations."""
  models, training = run.models, run.config.supervised
  # Imitation is rejection sampling with one candidate a query.
  imitation = dataclasses.replace(run.config.policy, method="rjs", training=training)
  layout = demonstration_layout(models)
  stream = make_stream(
    models.mesh,
    _order(run, 0, "supervised"),
    run.data.demonstrations if training.epochs else (),
    layout,
    functools.partial(demonstration_items, run.codec),
    training.batch_size,
    training.epochs,
  )
  seed = derive_seed(run.config.seed, "init", "policy")
  phase = TrainingPhase(
    player=run.players.policy_after(0),
    started_from=run.config.model.checkpoint or "random weights",
    training=training,
    start=lambda: first_policy(models.origins, models.policy, seed),
    make_update=functools.partial(_policy_update, models, imitation),
    num_steps=stream.num_batches,
    schedule_steps=stream.most_batches,
    build=lambda step: demonstration_batch(run.codec, layout, *stream.take(step)),
    place=stream.place,
  )
  play(run, phase)


def train_reward_base(run: Run) -> None:
  """The reward model's base, on the preferences of the reward side alone."""
  _train_on_preferences(run, run.players.reward_after(0), run.data.reward.preferences)


def train_testing_reward(run: Run) -> None:
  """The judge: a reward model on both players' preferences, never used in training a policy."""
  preferences = (*run.data.reward.preferences, *run.data.policy.preferences)
  _train_on_preferences(run, run.players.testing_reward, preferences)


def _train_on_preferences(run: Run, player: Player, preferences: Sequence[Preference]) -> None:
  models, training = run.models, run.config.reward.base
  layout = preference_layout(models, most_responses(preferences))
  stream = make_stream(
    models.mesh,
    _order(run, 0, player.phase),
    preferences,
    layout,
    functools.partial(preference_items, run.codec),
    training.batch_size,
    training.epochs,
  )

  def start() -> Parameters:
    supervised = run.parameters.of(run.players.policy_after(0))
    seed = derive_seed(run.config.seed, "init", player.phase)
    return first_reward(models.origins, models.policy, models.reward, supervised, seed)

  phase = TrainingPhase(
    player=player,
    started_from=_origin_of_rewards(run),
    training=training,
    start=start,
    make_update=functools.partial(_reward_update, models, run.config, training),
    num_steps=stream.num_batches,
    schedule_steps=stream.most_batches,
    build=lambda step: RewardBatch(*preference_rows(run.codec, layout, *stream.take(step))),
    place=stream.place,
  )
  play(run, phase)


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
  config, models, training = run.config.reward, run.models, run.config.reward.training
  preferences = run.data.reward.preferences
  layout = preference_layout(models, most_responses(preferences))
  endless = make_stream(
    models.mesh,
    _order(run, round, "reward_preferences"),
    preferences,
    layout,
    functools.partial(preference_items, run.codec),
    config.preference_batch_size,
    None,
  )
  start = run.players.reward_start(round)
  steps = num_batches(len(run.data.reward.golden), training.batch_size, training.epochs)
  phase = TrainingPhase(
    player=run.players.reward_after(round),
    started_from=start.name,
    training=training,
    start=lambda: models.reward.split(run.parameters.of(start))[0],
    make_update=functools.partial(_reward_update, models, run.config, training),
    num_steps=steps,
    schedule_steps=steps,
    build=lambda step: RewardBatch(*preference_rows(run.codec, layout, *endless.take(step))),
    place=endless.place,
  )
  if config.update == "adversarial":
    phase = _against_samples(run, round, phase, layout, endless)
  play(run, phase)


def _against_samples(
  run: Run, round: int, phase: TrainingPhase, layout: RowLayout, preferences: Stream[Preference]
) -> TrainingPhase:
  """A phase on preferences with golden responses and the policy's samples beside them."""
  apo_layout = golden_layout(run.models, run.config)
  golden = make_stream(
    run.models.mesh,
    _order(run, round, "reward_golden"),
    read_samples(run.directory.round(round) / GOLDEN_SAMPLES),
    apo_layout,
    functools.partial(golden_items, run.codec),
    phase.training.batch_size,
    phase.training.epochs,
  )

  def build(step: int) -> RewardBatch:
    preferred, bucket = preferences.take(step)
    sampled, golden_bucket = golden.take(step)
    # Both take the longer bucket, so that there are as many compiled steps as buckets.
    bucket = max(bucket, golden_bucket)
    return RewardBatch(
      *preference_rows(run.codec, layout, preferred, bucket),
      *golden_rows(run.codec, apo_layout, sampled, bucket),
    )

  return dataclasses.replace(
    phase,
    num_steps=golden.num_batches,
    schedule_steps=golden.most_batches,
    build=build,
    place=lambda batch: RewardBatch(*preferences.place(batch[:2]), *golden.place(batch[2:])),
  )


def train_policy(run: Run, round: int) -> None:
  """The max player's step, on the round's scored samples."""
  config, models, training = run.config.policy, run.models, run.config.policy.training
  layout = sample_layout(models, run.config)
  stream = make_stream(
    models.mesh,
    _order(run, round, "policy"),
    read_samples(run.directory.round(round) / POLICY_SAMPLES),
    layout,
    functools.partial(sample_items, config, run.codec),
    training.batch_size,
    training.epochs,
  )
  start = run.players.policy_start(round)
  phase = TrainingPhase(
    player=run.players.policy_after(round),
    started_from=start.name,
    training=training,
    start=lambda: models.policy.split(run.parameters.of(start))[0],
    make_update=functools.partial(_policy_update, models, config),
    num_steps=stream.num_batches,
    schedule_steps=stream.most_batches,
    build=lambda step: sample_batch(config, run.codec, layout, *stream.take(step)),
    place=stream.place,
  )
  play(run, phase)


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
