"""What a policy answers, and what reward models and policies say of the answers."""

import collections
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt32

from apo_jax.config.schema import Config, SamplerConfig
from apo_jax.data.records import Demonstration
from apo_jax.data.samples import Asked, Sample, SampledQuery
from apo_jax.data.tokens import Codec
from apo_jax.inference.sampler import SampledResponse
from apo_jax.inference.scoring import NotFinite, TokenSequence
from apo_jax.logs.progress import PhaseProgress
from apo_jax.models.definition import Parameters
from apo_jax.objectives import PolicyLoss, SampledRewards, Shaping, not_unfinished
from apo_jax.run import seeds
from apo_jax.run.players import Player
from apo_jax.run.run import Run


def draw(
  run: Run,
  player: Player,
  asked: Sequence[Asked],
  config: SamplerConfig,
  purpose: Sequence[str | int],
  progress: PhaseProgress,
) -> list[SampledQuery]:
  """Samples of a policy for every query, with their utilities and those of golden responses.

  `purpose` names what the samples are for; it and a query's query_id decide its random key.
  """
  return draw_from(run, run.parameters.of(player), asked, config, purpose, progress)


def draw_from(
  run: Run,
  parameters: Parameters,
  asked: Sequence[Asked],
  config: SamplerConfig,
  purpose: Sequence[str | int],
  progress: PhaseProgress,
) -> list[SampledQuery]:
  """The same of a policy that is no player, by its parameters."""
  keys = query_keys(run.config.seed, purpose, [one.record.query_id for one in asked])
  queries = [one.query for one in asked]
  drawn = run.inference.sampler(parameters, queries, keys, config, progress.advance)
  return [_sampled(run, one, responses) for one, responses in zip(asked, drawn, strict=True)]


def _sampled(run: Run, asked: Asked, responses: Sequence[SampledResponse]) -> SampledQuery:
  record, utility = asked.record, run.data.utility

  def judged(text: str) -> float | None:
    return None if utility is None else utility(record.query, text)

  def described(one: SampledResponse) -> Sample:
    tokens, finished, drew_end = one.response
    text = run.codec.decode(tokens)
    logprob = logprobs.setdefault((one.response.key, drew_end), one.logprob)
    return Sample(text, tuple(tokens), finished, logprob, utility=judged(text), drew_end=drew_end)

  # Equal responses have one log-probability, whatever the rounding where each was drawn.
  logprobs: dict[Any, float] = {}
  golden_utility = judged(record.response) if isinstance(record, Demonstration) else None
  samples = tuple(described(one) for one in responses)
  return SampledQuery(asked, samples, golden_utility=golden_utility)


def with_rewards(
  run: Run, sampled: Sequence[SampledQuery], reward_model: Player, progress: PhaseProgress
) -> list[SampledQuery]:
  """The same samples with rewards, and golden responses with theirs.

  Raises:
    NotFinite: a reward is not a number.
  """
  sequences = [
    (query.asked.query, response)
    for query in sampled
    for response in (*query.responses, *query.asked.responses)
  ]
  query_ids = [
    query.asked.record.query_id
    for query in sampled
    for _ in (*query.responses, *query.asked.responses)
  ]
  rewards = iter(rewards_of(run, sequences, query_ids, reward_model, progress))

  def rated(query: SampledQuery) -> SampledQuery:
    samples = tuple(dataclasses.replace(sample, reward=next(rewards)) for sample in query.samples)
    golden_reward = next(rewards) if query.asked.responses else None
    return dataclasses.replace(query, samples=samples, golden_reward=golden_reward)

  return [rated(query) for query in sampled]


def rewards_of(
  run: Run,
  sequences: Sequence[TokenSequence],
  query_ids: Sequence[str],
  reward_model: Player,
  progress: PhaseProgress,
) -> list[float]:
  """The reward of each sequence; `query_ids`, one each, are for errors.

  Raises:
    NotFinite: one is not a number.
  """
  scorer, parameters = run.inference.scorer_of(reward_model), run.parameters.of(reward_model)
  found = scorer(parameters, sequences, progress.advance)
  _check_finite(found, query_ids, f"the reward of {reward_model.name}")
  return found.tolist()


def with_shaped_rewards(
  sampled: Sequence[SampledQuery], shapings: Sequence[Shaping], **beside: Any
) -> list[SampledQuery]:
  """The same samples with the rewards that the policy learns from, shaped one after the other.

  Args:
    sampled: scored.
    shapings: in their order.
    beside: what else of `SampledRewards` they read.

  Raises:
    NotFinite: a shaping gives what is not a number.
  """
  samples = SampledRewards(
    rewards=jnp.asarray(of_samples(sampled, "reward"), jnp.float32),
    lengths=jnp.asarray(of_samples(sampled, "length")),
    finished=jnp.asarray(of_samples(sampled, "finished")),
    logprobs=jnp.asarray(of_samples(sampled, "logprob"), jnp.float32),
    **beside,
  )
  query_ids = [query.asked.record.query_id for query in sampled for _ in query.samples]
  for shaping in shapings:
    samples = samples._replace(rewards=shaping(samples))
    _check_finite(samples.rewards, query_ids, f"the reward as {shaping.name} shapes it")
  return _with(sampled, "shaped_reward", np.asarray(samples.rewards).tolist())


def read_by(
  loss: PolicyLoss, sampled: Sequence[SampledQuery], allowed: Bool[np.ndarray, "Q S"]
) -> Bool[np.ndarray, "Q S"]:
  """Which samples a policy loss reads, by their shaped rewards, of those it may."""
  rewards = jnp.asarray(of_samples(sampled, "shaped_reward"), jnp.float32)
  return np.asarray(loss.reads(rewards, jnp.asarray(allowed)))


def selected(
  config: Config, round: int, sampled: Sequence[SampledQuery]
) -> Bool[np.ndarray, "Q S"]:
  """Which samples the policy may learn from: `learnable` ones that the config's selections keep."""
  policy, query_ids = config.policy, [query.asked.record.query_id for query in sampled]
  # Whether an unfinished sample is better than all others is a question of rewards.
  asks_rewards = policy.unfinished == "never_best" and not policy.loss.reads_rewards
  valid = jnp.asarray(learnable(sampled, "as_is" if asks_rewards else policy.unfinished))
  rewards = jnp.asarray(of_samples(sampled, "shaped_reward"), jnp.float32)
  for number, selection in enumerate(policy.selections):
    keys = query_keys(config.seed, ("selection", number, round), query_ids)
    valid = selection(rewards, valid, jnp.asarray(keys))
  return np.asarray(valid)


def learnable(sampled: Sequence[SampledQuery], unfinished: str) -> Bool[np.ndarray, "Q S"]:
  """Which samples a policy may learn from before any selection.

  Empty ones never are, and of equal ones the first alone. `unfinished` says which of those without
  an end may be (`config.policy.unfinished`).
  """
  firsts = np.array([query.is_first for query in sampled])
  valid = jnp.asarray(~of_samples(sampled, "is_empty") & firsts)
  rewards = jnp.asarray(of_samples(sampled, "shaped_reward"), jnp.float32)
  finished = jnp.asarray(of_samples(sampled, "finished"))
  return np.asarray(not_unfinished(rewards, valid, finished, unfinished))


def policy_logprobs(
  run: Run,
  sampled: Sequence[SampledQuery],
  player: Player,
  progress: PhaseProgress,
  wanted: Bool[np.ndarray, "Q S"],
) -> Float[np.ndarray, "Q S"]:
  """log pi(y|x) of the samples `wanted` under a policy; what stands for others means nothing.

  Raises:
    NotFinite: one is not a number.
  """
  sequences = [
    (query.asked.query, response)
    for query, row in zip(sampled, wanted, strict=True)
    for response in itertools.compress(query.responses, row)
  ]
  logprobs = np.zeros(wanted.shape)
  scorer, parameters = run.inference.logprob_scorer, run.parameters.of(player)
  logprobs[wanted] = scorer(parameters, sequences, progress.advance)
  asked = zip(sampled, wanted, strict=True)
  query_ids = [query.asked.record.query_id for query, row in asked for _ in range(int(row.sum()))]
  _check_finite(logprobs[wanted], query_ids, f"the log-probability under {player.name}")
  return logprobs


def with_logprobs(
  sampled: Sequence[SampledQuery],
  field: Literal["reference_logprob", "earlier_logprob"],
  logprobs: Float[np.ndarray, "Q S"],
  wanted: Bool[np.ndarray, "Q S"],
) -> list[SampledQuery]:
  """The same samples with log-probabilities under a policy, of those `wanted`."""
  return _with(sampled, field, np.where(wanted, logprobs, None).tolist())


def with_golden_logprobs(
  run: Run, sampled: Sequence[SampledQuery], player: Player, progress: PhaseProgress
) -> list[SampledQuery]:
  """The same samples with the log-probabilities of golden responses under a policy.

  Raises:
    NotFinite: one is not a number.
  """
  sequences = [(query.asked.query, query.golden) for query in sampled]
  scorer, parameters = run.inference.logprob_scorer, run.parameters.of(player)
  found = scorer(parameters, sequences, progress.advance)
  query_ids = [query.asked.record.query_id for query in sampled]
  _check_finite(found, query_ids, f"the log-probability under {player.name}")
  return [
    dataclasses.replace(query, golden_reference_logprob=logprob)
    for query, logprob in zip(sampled, found.tolist(), strict=True)
  ]


def canonical(codec: Codec, sampled: Sequence[SampledQuery]) -> Bool[np.ndarray, "Q S"]:
  """Whether each sample's ids are those that its text is tokenised to, as a golden text's are."""
  samples = [sample for query in sampled for sample in query.samples]
  again = codec.form.response_ids([sample.text for sample in samples])
  same = [tuple(ids) == sample.tokens for ids, sample in zip(again, samples, strict=True)]
  return np.array(same).reshape(len(sampled), -1)


def of_samples(sampled: Sequence[SampledQuery], field: str) -> Shaped[np.ndarray, "Q S"]:
  """A field of every sample."""
  return np.array([[getattr(sample, field) for sample in query.samples] for query in sampled])


def _check_finite(values: Any, query_ids: Sequence[str], what: str) -> None:
  """Ends a phase before anything is made of numbers that are none."""
  values = np.asarray(values).reshape(-1)
  bad = np.flatnonzero(~np.isfinite(values))
  if len(bad):
    raise NotFinite(
      f"Of {len(values):,} responses, {what} is not a finite number for {len(bad):,}, the first"
      f" {values[bad[0]]} for a response to the query {query_ids[bad[0]]}. The checkpoint that was"
      " started from may hold such numbers, or a smaller learning rate may help:"
      " `python -m apo_jax.branch` begins a new run with one from a round before."
    )


def _with(
  sampled: Sequence[SampledQuery], field: str, values: Sequence[Sequence[float | None]]
) -> list[SampledQuery]:
  """The same samples with a field of each."""
  return [
    dataclasses.replace(
      query,
      samples=tuple(
        dataclasses.replace(sample, **{field: value})
        for sample, value in zip(query.samples, row, strict=True)
      ),
    )
    for query, row in zip(sampled, values, strict=True)
  ]


def query_keys(
  seed: int, purpose: Sequence[str | int], query_ids: Sequence[str]
) -> UInt32[np.ndarray, "N 2"]:
  """A key a query for its samples, from its query_id and how often that has come before."""
  seen: collections.Counter[str] = collections.Counter()
  keys = np.zeros((len(query_ids), 2), np.uint32)
  for row, query_id in enumerate(query_ids):
    keys[row] = seeds.derive_key(seed, *purpose, query_id, seen[query_id])
    seen[query_id] += 1
  return keys
