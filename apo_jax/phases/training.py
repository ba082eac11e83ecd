"""The phases that train a player: what each starts from and what its batches hold."""

import functools
from collections.abc import Sequence

import optax

from apo_jax.config.schema import Config, TrainingConfig
from apo_jax.data.input import num_batches
from apo_jax.data.records import Preference
from apo_jax.data.samples import read_samples
from apo_jax.data.tokenised import Tokenised
from apo_jax.logs.run_directory import GOLDEN_SAMPLES, POLICY_SAMPLES
from apo_jax.models.definition import Parameters
from apo_jax.objectives import MaximumLikelihood, PolicyLoss
from apo_jax.phases.batches import (
  RankedItem,
  demonstration_batch,
  golden_layout,
  golden_rows,
  ranked_golden,
  ranked_preference,
  ranked_rows,
  sample_batch,
  sample_layout,
)
from apo_jax.phases.stream import Batches, Record, Stream, make_stream
from apo_jax.phases.training_phase import TrainingPhase, play
from apo_jax.policy_step import make_policy_update
from apo_jax.reward_step import RewardBatch, make_reward_update
from apo_jax.rows.layouts import RowLayout
from apo_jax.rows.rows import shared_row_length
from apo_jax.run.models import Models
from apo_jax.run.players import Player
from apo_jax.run.run import Run
from apo_jax.run.seeds import derive_seed
from apo_jax.run.starts import first_policy, first_reward
from apo_jax.training.update import Update


def train_supervised(run: Run) -> None:
  """The policy's start: maximum likelihood on the demonstrations."""
  models, training, player = run.models, run.config.supervised, run.players.policy_after(0)
  layout = models.row_layout(models.policy, 1)
  records = run.data.demonstrations if training.epochs else ()
  loss = MaximumLikelihood(training.over_tokens)
  stream = _stream(run, 0, player.phase, layout, records, training.batch_size, training.epochs)
  seed = derive_seed(run.config.seed, "init", "policy")
  phase = TrainingPhase(
    player=player,
    started_from=run.config.model.checkpoint or "random weights",
    training=training,
    start=lambda: first_policy(models.origins, models.policy, seed),
    make_update=functools.partial(_policy_update, models, loss, training),
    batches=stream.batches(functools.partial(demonstration_batch, layout, run.codec.eos)),
  )
  play(run, phase)


def train_reward_base(run: Run) -> None:
  """The reward model's base, on the preferences of the reward side alone."""
  _train_on_preferences(run, run.players.reward_after(0), run.data.reward.preferences)


def train_testing_reward(run: Run) -> None:
  """The judge: a reward model on both players' preferences, never used in training a policy."""
  preferences = (*run.data.reward.preferences, *run.data.policy.preferences)
  _train_on_preferences(run, run.players.testing_reward, preferences)


def _train_on_preferences(
  run: Run, player: Player, preferences: Sequence[Tokenised[Preference]]
) -> None:
  models, training = run.models, run.config.reward.base
  layout, ranked = _ranked(models, preferences)
  stream = _stream(run, 0, player.phase, layout, ranked, training.batch_size, training.epochs)

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
    batches=stream.batches(functools.partial(_preference_batch, layout, run.codec.eos)),
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

  With `reward.mode = "preferences_only"` it makes as many updates on preferences alone (with
  `data.row_buckets` the game may have a partly filled batch more for each of their lengths).
  """
  config, training, eos = run.config.reward, run.config.reward.training, run.codec.eos
  layout, ranked = _ranked(run.models, run.data.reward.preferences)
  size = config.preference_batch_size
  preferences = _stream(run, round, "reward_preferences", layout, ranked, size, None)
  if config.mode == "adversarial":
    batches = _beside_golden(run, round, layout, preferences)
  else:
    number = num_batches(len(run.data.reward.golden), training.batch_size, training.epochs)
    batches = preferences.batches(functools.partial(_preference_batch, layout, eos))
    batches = batches._replace(number=number, most=number)
  start = run.players.reward_start(round)
  phase = TrainingPhase(
    player=run.players.reward_after(round),
    started_from=start.name,
    training=training,
    start=functools.partial(_trained, run, start),
    make_update=functools.partial(_reward_update, run.models, run.config, training),
    batches=batches,
  )
  play(run, phase)


def _beside_golden(
  run: Run, round: int, layout: RowLayout, preferences: Stream[RankedItem]
) -> Batches:
  """Batches of preferences and of golden responses with the policy's samples."""
  training, eos = run.config.reward.training, run.codec.eos
  sampled = read_samples(run.directory.round(round) / GOLDEN_SAMPLES, run.data.reward.golden)
  ranked, layout_against = list(map(ranked_golden, sampled)), golden_layout(run.models, run.config)
  size, epochs = training.batch_size, training.epochs
  golden = _stream(run, round, "reward_golden", layout_against, ranked, size, epochs)

  def build(step: int) -> RewardBatch:
    preferred, bucket = preferences.take(step)
    against, golden_bucket = golden.take(step)
    # Both take the longer bucket, so that there are as many compiled steps as buckets.
    bucket = max(bucket, golden_bucket)
    rows = ranked_rows(layout, eos, preferred, bucket)
    return RewardBatch(*rows, *golden_rows(layout_against, eos, against, bucket))

  def place(batch: RewardBatch) -> RewardBatch:
    return RewardBatch(*preferences.place(batch[:2]), *golden.place(batch[2:]))

  return Batches(len(golden.indices), golden.most, build, place)


def train_policy(run: Run, round: int) -> None:
  """The max player's step, on the round's scored samples."""
  config, training = run.config.policy, run.config.policy.training
  sampled = read_samples(run.directory.round(round) / POLICY_SAMPLES, run.data.policy.queries)
  chosen = [query.read for query in sampled]
  layout = sample_layout(run.models, run.config)
  stream = _stream(run, round, "policy", layout, chosen, training.batch_size, training.epochs)
  start = run.players.policy_start(round)
  phase = TrainingPhase(
    player=run.players.policy_after(round),
    started_from=start.name,
    training=training,
    start=functools.partial(_trained, run, start),
    make_update=functools.partial(_policy_update, run.models, config.loss, training),
    batches=stream.batches(functools.partial(sample_batch, layout, run.codec.eos)),
  )
  play(run, phase)


def _trained(run: Run, player: Player) -> Parameters:
  """A player's trained parameters, to go on from."""
  return run.models.of(player).split(run.parameters.of(player))[0]


def _ranked(
  models: Models, preferences: Sequence[Tokenised[Preference]]
) -> tuple[RowLayout, list[RankedItem]]:
  """Preferences as a reward model is trained on them, and the layout of their rows."""
  most_responses = max(len(preference.responses) for preference in preferences)
  longest = max(shared_row_length(*preference.item) for preference in preferences)
  layout = models.row_layout(models.reward, most_responses, longest)
  return layout, list(map(ranked_preference, preferences))


def _preference_batch(
  layout: RowLayout, eos: int, ranked: Sequence[RankedItem | None], bucket: int
) -> RewardBatch:
  return RewardBatch(*ranked_rows(layout, eos, ranked, bucket))


def _stream(
  run: Run,
  round: int,
  purpose: str,
  layout: RowLayout,
  records: Sequence[Record],
  batch_size: int,
  epochs: int | None,
) -> Stream[Record]:
  """The stream of a phase; round and purpose name its random order."""
  seed = derive_seed(run.config.seed, "shuffle", round, purpose)
  return make_stream(run.models.mesh, seed, layout, records, batch_size, epochs)


# All rounds share a compiled step.
@functools.lru_cache(maxsize=8)
def _policy_update(
  models: Models,
  loss: PolicyLoss,
  training: TrainingConfig,
  optimizer: optax.GradientTransformation,
) -> Update:
  accumulation = training.accumulation
  return make_policy_update(models.policy, optimizer, loss, models.mesh, accumulation=accumulation)


@functools.lru_cache(maxsize=8)
def _reward_update(
  models: Models,
  config: Config,
  training: TrainingConfig,
  optimizer: optax.GradientTransformation,
) -> Update:
  return make_reward_update(
    models.reward,
    optimizer,
    config.reward.apo,
    models.mesh,
    num_samples=config.sampling.training.num_samples,
    terms=config.reward.terms,
    accumulation=training.accumulation,
  )
