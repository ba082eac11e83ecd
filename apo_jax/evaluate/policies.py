"""What a policy answers to queries, and how its answers are judged by a testing reward model."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float
from numpy import ndarray

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import SamplerConfig
from apo_jax.data.records import Demonstration, Query
from apo_jax.data.tokenised import tokenise_records
from apo_jax.devices.sharding import batch_shards
from apo_jax.evaluate.data import Queries
from apo_jax.evaluate.models import Source
from apo_jax.evaluate.preferences import left_out_note, with_left_out
from apo_jax.evaluate.reading import Answer, Item, query_buckets
from apo_jax.evaluate.section import Section
from apo_jax.evaluation.length_control import length_controlled_win_rate
from apo_jax.evaluation.text import distinct_2
from apo_jax.evaluation.uncertainty import Estimate, Measured, mean
from apo_jax.evaluation.win_rate import win_rates
from apo_jax.inference.sampler import Sampler
from apo_jax.phases.responses import query_keys


@dataclasses.dataclass(frozen=True)
class Answered:
  """Answers of one policy, or of a file, to queries.

  Attributes:
    name: whose they are.
    answers: to each query; none where there is no answer to it, or the query fits no row.
  """

  name: str
  answers: list[tuple[Answer, ...]]


def sample(
  source: Source,
  mesh: Mesh,
  queries: Sequence[Query | Demonstration],
  sampler: SamplerConfig,
  *,
  seed: int,
  batch_size: int,
) -> Answered:
  """The policy's answers, drawn with the keys with which a run's evaluation draws.

  Raises:
    ConfigError: no query fits the policy's rows.
  """
  codec = source.codec
  # Golden responses take the room here that they take in a run, so that queries are cut alike.
  asked = [tokenise_records(codec, [record], source.limit) for record in queries]
  fitting = [one[0] for one in asked if one]
  if not fitting:
    raise ConfigError(f"{source.name} reads no query that fits its rows of {source.limit} tokens.")
  definition, parameters = source.load(mesh)
  shards = batch_shards(mesh)
  tokens = [one.query for one in fitting]
  drawn = Sampler(
    definition,
    codec,
    mesh,
    buckets=query_buckets([len(one) for one in tokens], codec.query_length),
    batch_size=-(-batch_size // shards) * shards,
    cache_dtype=definition.architecture.compute_dtype,
    gather_weights=True,
  )(parameters, tokens, query_keys(seed, ("test",), [q.record.query_id for q in fitting]), sampler)
  responses = iter(drawn)

  def answers() -> tuple[Answer, ...]:
    return tuple(
      Answer(codec.decode(one.response.tokens), one.response.finished, one.response, codec)
      for one in next(responses)
    )

  return Answered(source.name, [answers() if one else () for one in asked])


def golden_answers(queries: Queries) -> Answered:
  """The golden responses that the queries have."""
  return Answered(
    "the golden responses",
    [(Answer(one.response),) if isinstance(one, Demonstration) else () for one in queries.records],
  )


def items_of(queries: Queries, *answered: Answered) -> list[Item]:
  """Each query with the answers of all, one's after the other's."""
  return [
    Item(
      record.query_id, record.query, tuple(one for each in answered for one in each.answers[row])
    )
    for row, record in enumerate(queries.records)
  ]


def policy_section(
  queries: Queries,
  ours: Answered,
  theirs: Answered | None,
  rewards: Sequence[Float[ndarray, " _"]] | None,
  judge: str | None,
) -> Section:
  """The numbers of a policy's answers, and of its opponent's beside them.

      testing_reward                 mean over its answers
      opponent_reward                the same of the opponent's
      win_rate                       share of pairs won by the testing reward, ties half
      length_controlled_win_rate     the same at equal lengths (evaluation/length_control.py)
      response_length                tokens
      length, opponent_length        characters
      longer                         share of pairs whose answer is the longer, ties half
      unfinished, distinct_2, distinct_samples, true_utility   as in a round's evaluation

  Args:
    queries: that were answered.
    ours: the policy's answers.
    theirs: the opponent's; None without one.
    rewards: of our answers and then of theirs, by query (`items_of`); None without a judge.
    judge: the name of the testing reward model.
  """
  rows = [
    row
    for row in range(len(queries.records))
    if ours.answers[row]
    and (theirs is None or theirs.answers[row])
    and (rewards is None or np.all(np.isfinite(rewards[row])))
  ]
  if not rows:
    raise ConfigError(f"No query of {queries.name} has answers that could be judged.")
  mine = [ours.answers[row] for row in rows]
  numbers: dict[str, Estimate] = {}

  def each(value: Callable[[Answer], float], answers: Sequence[Sequence[Answer]]) -> Estimate:
    return mean(np.array([np.mean([value(one) for one in some]) for some in answers], float))

  if queries.utility is not None:
    texts = [(queries.records[row].query, ours.answers[row]) for row in rows]
    numbers["true_utility"] = mean(
      np.array([np.mean([queries.utility(q, one.text) for one in some]) for q, some in texts])
    )
  if rewards is not None:
    split = [np.split(rewards[row], [len(ours.answers[row])]) for row in rows]
    numbers["testing_reward"] = mean(np.array([np.mean(own) for own, _ in split]))
  if theirs is not None:
    numbers |= _against(
      mine, [theirs.answers[row] for row in rows], None if rewards is None else split
    )
  numbers["response_length"] = each(lambda one: len(one.ids.tokens) if one.ids else np.nan, mine)
  numbers["length"] = each(_length, mine)
  numbers["unfinished"] = each(lambda one: not one.finished, mine)
  numbers["distinct_2"] = distinct_2([[one.text for one in some] for some in mine])
  numbers["distinct_samples"] = mean(
    np.array([float(len({(one.text, one.finished) for one in some})) for some in mine])
  )
  reason, missing = "without answers that fit", len(queries.records) - len(rows)
  left_out = with_left_out(queries.left_out, reason, missing)
  opponent = "" if theirs is None else f" against {theirs.name}"
  by = "" if judge is None else f", judged by {judge}"
  return Section(
    key="policy",
    title=f"{ours.name}{opponent}, on {len(rows):,} queries of {queries.name}{by}",
    measured=Measured([queries.records[row].query_id for row in rows], numbers),
    plain={
      "policy": ours.name,
      "against": theirs and theirs.name,
      "judge": judge,
      "left_out": left_out,
    },
    notes=left_out_note(left_out),
    items=[_item(queries, ours, theirs, rewards, row) for row in rows],
  )


def _against(
  mine: Sequence[Sequence[Answer]],
  others: Sequence[Sequence[Answer]],
  rewards: Sequence[Sequence[Float[ndarray, " _"]]] | None,
) -> dict[str, Estimate]:
  numbers = {"opponent_length": mean(np.array([np.mean(_lengths(some)) for some in others]))}
  pairs = list(zip(mine, others, strict=True))
  numbers["longer"] = mean(_wins([(_lengths(own), _lengths(other)) for own, other in pairs], pairs))
  if rewards is None:
    return numbers
  wins = _wins(rewards, pairs)
  ours_longer = np.array(
    [float(np.mean(_lengths(own)) - np.mean(_lengths(other))) for own, other in pairs]
  )
  return {
    "opponent_reward": mean(np.array([np.mean(other) for _, other in rewards])),
    "win_rate": mean(wins),
    "length_controlled_win_rate": length_controlled_win_rate(wins, ours_longer),
    **numbers,
  }


def _wins(
  values: Sequence[Sequence[Float[ndarray, " _"]]],
  pairs: Sequence[tuple[Sequence[Answer], Sequence[Answer]]],
) -> Float[ndarray, " Q"]:
  return np.array(
    [
      win_rates(own[None], other[None], _equal(*pair)[None])[0]
      for (own, other), pair in zip(values, pairs, strict=True)
    ]
  )


def _equal(mine: Sequence[Answer], others: Sequence[Answer]) -> Bool[ndarray, "S O"]:
  return np.array([[one.same_as(other) for other in others] for one in mine])


def _length(answer: Answer) -> float:
  return float(len(answer.text.strip()))


def _lengths(answers: Sequence[Answer]) -> Float[ndarray, " S"]:
  return np.array([_length(one) for one in answers])


def _item(
  queries: Queries,
  ours: Answered,
  theirs: Answered | None,
  rewards: Sequence[Float[ndarray, " _"]] | None,
  row: int,
) -> dict[str, Any]:
  record, count = queries.records[row], len(ours.answers[row])

  def described(answers: Sequence[Answer], found: Float[ndarray, " R"] | None) -> list[Any]:
    return [
      {"text": one.text, "finished": one.finished, "reward": None if found is None else found[i]}
      for i, one in enumerate(answers)
    ]

  found = None if rewards is None else rewards[row]
  item = {
    "query_id": record.query_id,
    "query": record.query,
    "responses": described(ours.answers[row], found),
  }
  if theirs is None:
    return item
  others = None if found is None else found[count:]
  return item | {"against": described(theirs.answers[row], others)}
