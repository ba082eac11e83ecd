"""The phases that train a player: what each starts from and what its batches hold."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import optax

from apo_jax.config import PolicyConfig, TrainingConfig
from apo_jax.data.input import PADDING_ITEM, index_batches, num_batches
from apo_jax.data.records import Demonstration, Preference
from apo_jax.data.rows import make_rows
from apo_jax.data.samples import Sample, SampledQuery, read_samples
from apo_jax.models.definition import Parameters, reward_parameters_from_policy
from apo_jax.policy_step import PolicyBatch, PolicyUpdate, make_policy_update
from apo_jax.reward_step import RewardBatch, RewardUpdate, make_reward_update
from apo_jax.run_context import RunContext
from apo_jax.sharding import local_rows, place_batch
from apo_jax.training_plan import TrainingPlan, carry_out

Item = TypeVar("Item")

PADDING_SCORE = -1.0  # below 0: no response there
GOLDEN_SCORE = 1.0
SAMPLE_SCORE = 0.0


def train_supervised(run: RunContext) -> None:
  """The policy's start: maximum likelihood on the demonstrations."""
  training = run.config.supervised
  # Imitation is rejection sampling with one candidate a query.
  imitation = dataclasses.replace(run.config.policy, method="rjs", training=training)
  records = run.data.demonstrations if training.epochs else ()
  pick = _picker(run, records, training.batch_size, training.epochs, 0, "supervised")
  plan = TrainingPlan(
    round=0,
    phase="supervised",
    player=run.policy_after(0),
    started_from="random weights",
    definition=run.policy,
    training=training,
    num_steps=num_batches(len(records), training.batch_size, training.epochs),
    start=lambda: run.policy.init(run.seed("init", "policy")),
    make_update=functools.partial(_policy_update, run, imitation),
    build=lambda step: _demonstration_batch(run, pick(step)),
    place=lambda batch: place_batch(run.mesh, batch, training.batch_size),
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
  pick = _picker(run, preferences, training.batch_size, training.epochs, 0, phase)

  def start() -> Parameters:
    fresh = run.reward_model.init(run.seed("init", phase))
    return reward_parameters_from_policy(fresh, run.parameters(run.policy_after(0)))

  num_responses = _most_responses(preferences)
  plan = TrainingPlan(
    round=0,
    phase=phase,
    player=player,
    started_from=run.policy_after(0),
    definition=run.reward_model,
    training=training,
    num_steps=num_batches(len(preferences), training.batch_size, training.epochs),
    start=start,
    make_update=functools.partial(_reward_update, run, training),
    build=lambda step: RewardBatch(*_preference_rows(run, pick(step), num_responses)),
    place=lambda batch: place_batch(run.mesh, batch, training.batch_size),
  )
  carry_out(run, plan)


def train_reward(run: RunContext, round: int) -> None:
  """The min player's step: golden responses against the policy's samples, beside preferences.

  With `reward.update = "preferences_only"` it makes as many updates on preferences alone.
  """
  config = run.config.reward
  training = config.training
  preferences = run.data.reward.preferences
  num_steps = num_batches(len(run.data.reward.golden), training.batch_size, training.epochs)
  size = config.preference_batch_size
  pick_preferences = _picker(run, preferences, size, None, round, "reward_preferences")
  num_responses = _most_responses(preferences)
  adversarial = config.update == "adversarial"
  if adversarial:
    sampled = read_samples(run.round_dir(round) / "golden_samples.jsonl")
    pick_golden = _picker(
      run, sampled, training.batch_size, training.epochs, round, "reward_golden"
    )

  def build(step: int) -> RewardBatch:
    batch = RewardBatch(*_preference_rows(run, pick_preferences(step), num_responses))
    if not adversarial:
      return batch
    apo, apo_scores = _golden_rows(run, pick_golden(step))
    return batch._replace(apo=apo, apo_scores=apo_scores)

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
    start=lambda: run.parameters(run.reward_start(round)),
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
  pick = _picker(run, sampled, training.batch_size, training.epochs, round, "policy")
  plan = TrainingPlan(
    round=round,
    phase="policy",
    player=run.policy_after(round),
    started_from=run.policy_start(round),
    definition=run.policy,
    training=training,
    num_steps=num_batches(len(sampled), training.batch_size, training.epochs),
    start=lambda: run.parameters(run.policy_start(round)),
    make_update=functools.partial(_policy_update, run, config),
    build=lambda step: _sample_batch(run, pick(step)),
    place=lambda batch: place_batch(run.mesh, batch, training.batch_size),
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


def _picker(
  run: RunContext,
  items: Sequence[Item],
  batch_size: int,
  epochs: int | None,
  round: int,
  purpose: str,
) -> Callable[[int], list[Item | None]]:
  """The items of an update's batch that this process holds; None stands for padding."""
  chosen = index_batches(len(items), batch_size, epochs, run.seed("shuffle", round, purpose))
  rows = local_rows(run.mesh, batch_size)

  def pick(step: int) -> list[Item | None]:
    return [None if index == PADDING_ITEM else items[index] for index in chosen[step][rows]]

  return pick


def _most_responses(preferences: Sequence[Preference]) -> int:
  return max(len(preference.responses) for preference in preferences)


def _queries(run: RunContext, records: Sequence[Item | None]) -> list[list[int]]:
  return run.codec.encode_queries(["" if record is None else record.query for record in records])


def _demonstration_batch(run: RunContext, records: Sequence[Demonstration | None]) -> PolicyBatch:
  texts = ["" if record is None else record.response for record in records]
  responses = run.codec.encode_responses(texts)
  present = [record is not None for record in records]
  items = [
    (query, [response if there else None])
    for query, response, there in zip(_queries(run, records), responses, present, strict=True)
  ]
  zeros = np.zeros((len(records), 1), np.float32)
  rows = make_rows(items, 1, run.row_length, run.codec.eos)
  return PolicyBatch(rows, zeros, None, np.array(present)[:, None])


def _preference_rows(
  run: RunContext, records: Sequence[Preference | None], num_responses: int
) -> tuple:
  """Rows [B, R, T] and scores [B, R] of preferences."""
  scores = np.full((len(records), num_responses), PADDING_SCORE, np.float32)
  items = []
  for index, (query, record) in enumerate(zip(_queries(run, records), records, strict=True)):
    if record is None:
      items.append((query, []))
      continue
    scores[index, : len(record.scores)] = record.scores
    items.append((query, run.codec.encode_responses(record.responses)))
  return make_rows(items, num_responses, run.row_length, run.codec.eos), scores


def _golden_rows(run: RunContext, records: Sequence[SampledQuery | None]) -> tuple:
  """Rows [C, 1 + S, T] and scores [C, 1 + S]: each golden response, then its samples."""
  num_samples = run.config.sampling.training.num_samples
  scores = np.full((len(records), 1 + num_samples), PADDING_SCORE, np.float32)
  golden = run.codec.encode_responses(
    ["" if record is None else record.golden for record in records]
  )
  items = []
  for index, query in enumerate(_queries(run, records)):
    record = records[index]
    if record is None:
      items.append((query, []))
      continue
    scores[index] = [GOLDEN_SCORE, *[SAMPLE_SCORE] * num_samples]
    samples = [sample.response for sample in record.samples]
    items.append((query, [golden[index], *samples]))
  return make_rows(items, 1 + num_samples, run.row_length, run.codec.eos), scores


def _sample_batch(run: RunContext, records: Sequence[SampledQuery | None]) -> PolicyBatch:
  """The responses that the method trains on, with their rewards and reference log-probabilities."""
  config = run.config.policy
  chosen = [[] if record is None else select_samples(record.samples, config) for record in records]
  count = {"rjs": 1, "rrhf": run.config.sampling.training.num_samples}.get(config.method)
  if count is None:
    count = 2 if config.pairs == "best_worst" else run.config.sampling.training.num_samples
  shape = (len(records), count)
  rewards, reference_logprobs = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
  valid = np.zeros(shape, bool)
  for index, samples in enumerate(chosen):
    rewards[index, : len(samples)] = [sample.reward for sample in samples]
    reference_logprobs[index, : len(samples)] = [sample.reference_logprob for sample in samples]
    valid[index, : len(samples)] = True
  items = [
    (query, [sample.response for sample in samples])
    for query, samples in zip(_queries(run, records), chosen, strict=True)
  ]
  rows = make_rows(items, count, run.row_length, run.codec.eos)
  return PolicyBatch(rows, rewards, reference_logprobs, valid)


def select_samples(samples: Sequence[Sample], config: PolicyConfig) -> list[Sample]:
  """The samples of a query that the policy's loss reads; empty ones never are.

  Rejection sampling reads the best, DPO on best-vs-worst these two, every other loss all. Of
  equal rewards the first counts as best and as worst.
  """
  spoken = [sample for sample in samples if not sample.is_empty]
  if not spoken:
    return []
  best = max(spoken, key=lambda sample: sample.reward)
  if config.method == "rjs":
    return [best]
  if config.method == "dpo" and config.pairs == "best_worst":
    worst = min(spoken, key=lambda sample: sample.reward)
    return [best] if worst is best else [best, worst]
  return spoken
