"""The phases that train a player: what each starts from and what its batches hold."""

import functools
from collections.abc import Callable, Sequence

import optax

from apo_jax.config.schema import Config, TrainingConfig
from apo_jax.data.input import num_batches
from apo_jax.data.records import Preference, subsets_of
from apo_jax.data.tokenised import Tokenised
from apo_jax.logs import files
from apo_jax.logs.run_directory import (
  JUDGE,
)
from apo_jax.models.definition import Parameters
from apo_jax.objectives import (
  APO,
  FixedWeights,
  MaximumLikelihood,
  PolicyLoss,
  RewardTerm,
  Weighting,
)
from apo_jax.phases.batches import (
  RankedItem,
  demonstration_batch,
  golden_layout,
  golden_rows,
  preference_batch,
  ranked_preference,
  sample_batch,
  sample_layout,
  scored_item,
)
from apo_jax.phases.contrasts import contrasted
from apo_jax.phases.replay import policy_samples, replayed_samples
from apo_jax.phases.stream import Batches, Record, Stream, make_stream
from apo_jax.phases.training_phase import TrainingPhase, play
from apo_jax.policy_step import make_policy_update, policy_loss_parts
from apo_jax.reward_step import RewardBatch, make_reward_update, reward_loss_parts
from apo_jax.rows.layouts import RowLayout
from apo_jax.rows.rows import shared_row_length
from apo_jax.run.judge import (
  head_seed,
  judge_facts,
  preferences_of_judge,
  training_of_judge,
)
from apo_jax.run.models import Models
from apo_jax.run.players import Player
from apo_jax.run.run import Run
from apo_jax.run.seeds import derive_seed
from apo_jax.run.starts import first_policy, first_reward, imported_reward, reward_on_trunk
from apo_jax.training.update import LossParts, Update


def train_supervised(run: Run) -> None:
  """The policy's start: maximum likelihood on the demonstrations."""
  play(run, training_phase(run, run.players.policy_after(0)))


def train_reward_base(run: Run) -> None:
  """The reward model's base, on the preferences of the reward side alone."""
  play(run, training_phase(run, run.players.reward_after(0)))


def train_testing_trunk(run: Run) -> None:
  """What the judge starts from where it has a shape of its own: the demonstrations alone."""
  play(run, training_phase(run, run.players.testing_trunk))


def train_testing_reward(run: Run) -> None:
  """The judge: a reward model on preferences, never used in training a policy."""
  if run.logs.is_writer:
    # Before the training, whose result says that the phase is finished.
    facts = judge_facts(run.config, run.models, run.data)
    files.write_json(run.directory.round(0) / JUDGE, facts)
  play(run, training_phase(run, run.players.testing_reward))


def train_reward(run: Run, round: int) -> None:
  """The min player's step: golden responses against the policy's samples, beside preferences.

  With `reward.mode = "preferences_only"` it makes as many updates on preferences alone (with
  `data.row_buckets` the game may have a partly filled batch more for each of their lengths).
  """
  play(run, training_phase(run, run.players.reward_after(round)))


def train_policy(run: Run, round: int) -> None:
  """The max player's step, on the round's scored samples."""
  play(run, training_phase(run, run.players.policy_after(round)))


def training_phase(run: Run, player: Player) -> TrainingPhase:
  """The training that makes a player, as data: nothing is trained or written."""
  first: dict[str, Callable[[Run], TrainingPhase]] = {
    "supervised": _supervised,
    "reward_base": _reward_base,
    "testing_trunk": _testing_trunk,
    "testing_reward": _testing_reward,
  }
  if player.phase in first:
    return first[player.phase](run)
  return (_policy if player.is_policy else _reward)(run, player.round)


def _supervised(run: Run) -> TrainingPhase:
  models, training, player = run.models, run.config.supervised, run.players.policy_after(0)
  layout = models.row_layout(models.policy, 1)
  records = run.data.demonstrations if training.epochs else ()
  loss = MaximumLikelihood(training.over_tokens)
  stream = _stream(run, 0, player.phase, layout, records, training.batch_size, training.epochs)
  seed = derive_seed(run.config.seed, "init", "policy")
  return TrainingPhase(
    player=player,
    started_from=run.config.model.checkpoint or "random weights",
    training=training,
    field="config.supervised",
    start=lambda: first_policy(models.origins, models.policy, seed),
    make_update=functools.partial(_policy_update, models, loss, training),
    parts=policy_loss_parts(loss),
    batches=stream.batches(functools.partial(demonstration_batch, layout, run.codec.eos)),
  )


def _reward_base(run: Run) -> TrainingPhase:
  player, training = run.players.reward_after(0), run.config.reward.base
  start = functools.partial(_start_of_rewards, run, player)
  preferences = run.data.reward.preferences
  return _on_preferences(run, player, preferences, training, "config.reward.base", start)


def _testing_trunk(run: Run) -> TrainingPhase:
  models, training, player = run.models, run.config.supervised, run.players.testing_trunk
  definition = models.of(player)
  layout = models.row_layout(definition, 1)
  records, epochs = run.data.demonstrations, training.epochs
  stream = _stream(run, 0, player.phase, layout, records, training.batch_size, epochs)
  seed, loss = (
    derive_seed(run.config.seed, "init", player.phase),
    MaximumLikelihood(training.over_tokens),
  )
  return TrainingPhase(
    player=player,
    started_from="random weights",
    training=training,
    field="config.supervised",
    start=lambda: definition.init(seed),
    make_update=lambda optimizer: make_policy_update(
      definition, optimizer, loss, models.mesh, accumulation=training.accumulation
    ),
    parts=policy_loss_parts(loss),
    batches=stream.batches(functools.partial(demonstration_batch, layout, run.codec.eos)),
  )


def _testing_reward(run: Run) -> TrainingPhase:
  config, player = run.config, run.players.testing_reward
  own = config.testing_reward.training is not None
  return _on_preferences(
    run,
    player,
    preferences_of_judge(config, run.data),
    training_of_judge(config),
    "config.testing_reward.training" if own else "config.reward.base",
    functools.partial(_start_of_judge, run),
  )


def _start_of_judge(run: Run) -> Parameters:
  """What the judge's training begins with."""
  origins, definition = run.models.origins, run.models.testing_reward
  if origins.testing_reward_checkpoint is not None:
    checkpoint, field = origins.testing_reward_checkpoint, "config.testing_reward.checkpoint"
    return imported_reward(checkpoint, definition, field)
  player = run.players.testing_reward
  if run.config.testing_reward.shape is None:
    return _start_of_rewards(run, player)
  trunk = run.parameters.of(run.players.testing_trunk)
  return reward_on_trunk(trunk, definition, head_seed(run.config, player))


def _start_of_rewards(run: Run, player: Player) -> Parameters:
  """What a reward model's training begins with that has no start of its own."""
  models, supervised = run.models, run.parameters.of(run.players.policy_after(0))
  seed = head_seed(run.config, player)
  return first_reward(models.origins, models.policy, models.reward, supervised, seed)


def _on_preferences(
  run: Run,
  player: Player,
  preferences: Sequence[Tokenised[Preference]],
  training: TrainingConfig,
  field: str,
  start: Callable[[], Parameters],
) -> TrainingPhase:
  models = run.models.judging if player == run.players.testing_reward else run.models
  layout, ranked = _ranked(models, preferences)
  stream = _stream(run, 0, player.phase, layout, ranked, training.batch_size, training.epochs)
  return TrainingPhase(
    player=player,
    started_from=run.players.origin_of_rewards(player),
    training=training,
    field=field,
    start=start,
    make_update=_make_reward_update(models, run.config, training, FixedWeights(), ()),
    parts=_reward_parts(run.config, training, FixedWeights(), ()),
    batches=stream.batches(functools.partial(preference_batch, layout, run.codec.eos, ())),
  )


def _reward(run: Run, round: int) -> TrainingPhase:
  config, training, eos = run.config.reward, run.config.reward.training, run.codec.eos
  layout, ranked = _ranked(run.models, run.data.reward.preferences)
  size = config.preference_batch_size
  subsets = subsets_of(one.record for one in run.data.reward.preferences)
  preferences = _stream(run, round, "reward_preferences", layout, ranked, size, None)
  if config.mode == "adversarial":
    batches = _beside_golden(run, round, layout, preferences, subsets)
  else:
    number = num_batches(len(run.data.reward.golden), training.batch_size, training.epochs)
    batches = preferences.batches(functools.partial(preference_batch, layout, eos, subsets))
    batches = batches._replace(number=number, most=number)
  start = run.players.reward_start(round)
  return TrainingPhase(
    player=run.players.reward_after(round),
    started_from=start.name,
    training=training,
    field="config.reward.training",
    start=functools.partial(_trained, run, start),
    make_update=_make_reward_update(run.models, run.config, training, config.weighting, subsets),
    parts=_reward_parts(run.config, training, config.weighting, subsets),
    batches=batches,
  )


def _beside_golden(
  run: Run,
  round: int,
  layout: RowLayout,
  preferences: Stream[RankedItem],
  subsets: Sequence[str],
) -> Batches:
  """Batches of preferences and of what the adversarial term contrasts."""
  training, eos = run.config.reward.training, run.codec.eos
  ranked, layout_against = contrasted(run, round), golden_layout(run.models, run.config)
  size, epochs = training.batch_size, training.epochs
  golden = _stream(run, round, "reward_golden", layout_against, ranked, size, epochs)

  def build(step: int) -> RewardBatch:
    preferred, bucket = preferences.take(step)
    against, golden_bucket = golden.take(step)
    # Both take the longer bucket, so that there are as many compiled steps as buckets.
    bucket = max(bucket, golden_bucket)
    rows, scores, twins = golden_rows(layout_against, eos, against, bucket)
    batch = preference_batch(layout, eos, subsets, preferred, bucket)
    return batch._replace(golden=rows, golden_scores=scores, golden_twins=twins)

  def place(batch: RewardBatch) -> RewardBatch:
    names = ("golden", "golden_scores", "golden_twins")
    of_golden = {name: golden.place(getattr(batch, name)) for name in names}
    return preferences.place(batch._replace(**dict.fromkeys(names)))._replace(**of_golden)

  return Batches(len(golden.indices), golden.most, build, place)


def _policy(run: Run, round: int) -> TrainingPhase:
  config, training = run.config.policy, run.config.policy.training
  sampled = policy_samples(run, round) + replayed_samples(run, round)
  chosen = [scored_item(config.loss, query) for query in sampled]
  layout = sample_layout(run.models, run.config)
  stream = _stream(run, round, "policy", layout, chosen, training.batch_size, training.epochs)
  start = run.players.policy_start(round)
  return TrainingPhase(
    player=run.players.policy_after(round),
    started_from=start.name,
    training=training,
    field="config.policy.training",
    start=functools.partial(_trained, run, start),
    make_update=functools.partial(_policy_update, run.models, config.loss, training),
    parts=policy_loss_parts(config.loss),
    batches=stream.batches(functools.partial(sample_batch, layout, run.codec.eos, config.loss)),
  )


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
  apo: APO,
  terms: tuple[RewardTerm, ...],
  weighting: Weighting,
  subsets: tuple[str, ...],
  num_samples: int,
  accumulation: int,
  optimizer: optax.GradientTransformation,
) -> Update:
  return make_reward_update(
    models.reward,
    optimizer,
    apo,
    models.mesh,
    num_samples=num_samples,
    terms=terms,
    weighting=weighting,
    subsets=subsets,
    accumulation=accumulation,
  )


def _make_reward_update(
  models: Models,
  config: Config,
  training: TrainingConfig,
  weighting: Weighting,
  subsets: tuple[str, ...],
) -> Callable[[optax.GradientTransformation], Update]:
  """What makes a reward model's step for an optimizer."""
  reward, num_samples = config.reward, config.sampling.training.num_samples
  settings = reward.apo, reward.terms, weighting, subsets, num_samples, training.accumulation
  return functools.partial(_reward_update, models, *settings)


def _reward_parts(
  config: Config, training: TrainingConfig, weighting: Weighting, subsets: tuple[str, ...]
) -> LossParts:
  return reward_loss_parts(
    config.reward.apo,
    num_samples=config.sampling.training.num_samples,
    terms=config.reward.terms,
    weighting=weighting,
    subsets=subsets,
    accumulation=training.accumulation,
  )
