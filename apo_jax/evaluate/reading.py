"""What a model says of text: rewards and log-probabilities, through its own tokenizer and template.

Ids that a model's own tokenizer has drawn are read as they are; all other text is tokenised.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from apo_jax.config.fields import ConfigError
from apo_jax.data.tokens import Codec
from apo_jax.evaluate.models import Source
from apo_jax.inference.scoring import (
  Scorer,
  TokenSequence,
  make_logprob_scorer,
  make_reward_scorer,
)
from apo_jax.models.definition import Parameters
from apo_jax.rows.rows import Response

# Padded lengths are multiples of it, so that few programs are compiled.
_LENGTH_STEP = 32


@dataclasses.dataclass(frozen=True)
class Answer:
  """One response.

  Attributes:
    text: what people read; a space comes first (data/dialogue.py).
    finished: it ended, not by a sampler's limit.
    ids: those that were drawn, where a policy has drawn it; None of text alone.
    codec: whose ids they are.
  """

  text: str
  finished: bool = True
  ids: Response | None = None
  codec: Codec | None = None

  @property
  def is_empty(self) -> bool:
    """Whether it says nothing."""
    return not self.text.strip()

  def same_as(self, other: "Answer") -> bool:
    """Whether both say the same."""
    return self.text.strip() == other.text.strip() and self.finished == other.finished


@dataclasses.dataclass(frozen=True)
class Item:
  """A query with answers to it."""

  query_id: str
  query: str
  answers: tuple[Answer, ...]


def rewards_of(
  source: Source, mesh: Mesh, items: Sequence[Item], batch_size: int
) -> list[Float[np.ndarray, " _"]]:
  """The reward of every answer of every item; nan for all of an item that fits no row.

  Raises:
    ConfigError: a reward is not a number.
  """
  definition, parameters = source.load(mesh)

  def make(**settings: Any) -> Scorer:
    return make_reward_scorer(definition, mesh, **settings)

  return _scores(source, make, parameters, items, batch_size, "reward")


def logprobs_of(
  source: Source, mesh: Mesh, items: Sequence[Item], batch_size: int
) -> list[Float[np.ndarray, " _"]]:
  """log pi(y|x) of every answer, in nats, its end included; nan for items that fit no row.

  Raises:
    ConfigError: one is not a number.
  """
  definition, parameters = source.load(mesh)

  def make(**settings: Any) -> Scorer:
    return make_logprob_scorer(definition, mesh, **settings)

  return _scores(source, make, parameters, items, batch_size, "log-probability")


def lengths_in_tokens(source: Source, items: Sequence[Item]) -> list[Float[np.ndarray, " _"]]:
  """Tokens of every answer with its end; nan for items that fit no row."""
  return [
    np.full(len(item.answers), np.nan)
    if sequences is None
    else np.array([float(response.num_slots) for _, response in sequences])
    for item, sequences in zip(items, token_sequences(source, items), strict=True)
  ]


def query_buckets(lengths: Sequence[int], limit: int) -> tuple[int, ...]:
  """Padded lengths for queries of these lengths: one for the shorter half, one for the longest."""
  wanted = (statistics.median_high(lengths), max(lengths))
  return tuple(sorted({_padded(length, limit) for length in wanted}))


def _scores(
  source: Source,
  make: Callable[..., Scorer],
  parameters: Parameters,
  items: Sequence[Item],
  batch_size: int,
  what: str,
) -> list[Float[np.ndarray, " _"]]:
  read = token_sequences(source, items)
  sequences = [sequence for one in read if one is not None for sequence in one]
  if not sequences:
    raise ConfigError(
      f"{source.name} reads rows of at most {source.limit} tokens, and none of the {len(items)} "
      "items fits one."
    )
  longest = max(len(query) + response.num_slots for query, response in sequences)
  usual = statistics.median_high(len(q) + response.num_slots for q, response in sequences)
  scorer = make(
    batch_size=batch_size,
    query_length=_padded(max(len(query) for query, _ in sequences), source.limit),
    lengths=[_padded(length, source.limit) for length in (usual, longest)],
    eos=source.codec.eos,
  )
  scores = np.asarray(scorer(parameters, sequences), float)
  if not np.all(np.isfinite(scores)):
    bad = int(np.sum(~np.isfinite(scores)))
    raise ConfigError(
      f"{source.name} gives a {what} that is not a finite number to {bad} of {len(scores)} "
      "responses; its weights may hold such numbers."
    )
  values = iter(scores)
  return [
    np.array([np.nan if one is None else next(values) for _ in item.answers])
    for item, one in zip(items, read, strict=True)
  ]


def token_sequences(source: Source, items: Sequence[Item]) -> list[list[TokenSequence] | None]:
  """The ids of every answer behind its query; None for an item that fits no row.

  A query loses its left where the longest of its answers needs the room, for all of them alike.
  """
  codec = source.codec
  queries = codec.form.query_ids([item.query for item in items])
  encoded = _encode(codec, items)
  found: list[list[TokenSequence] | None] = []
  for item, ids, texts in zip(items, queries, encoded, strict=True):
    if texts is None:
      found.append(None)
      continue
    answers = zip(item.answers, texts, strict=True)
    responses = [_response(codec, one, text) for one, text in answers]
    room = source.limit - max(response.num_slots for response in responses)
    if room < codec.shortest_query:
      found.append(None)
      continue
    query = codec.cut_query(item.query, ids, min(codec.query_length, room))
    found.append(None if query is None else [(query, response) for response in responses])
  return found


def _encode(codec: Codec, items: Sequence[Item]) -> list[list[Response] | None]:
  """The ids of every answer's text; None for an item that the codec's form cannot write."""
  queries = [item.query for item in items]
  drawn = [one.text for item in items for one in item.answers if one.ids is not None]
  of_drawn = iter(codec.encode_responses(drawn))  # one turn, whatever it says
  written = [[one.text for one in item.answers if one.ids is None] for item in items]
  found: list[list[Response] | None] = []
  for item, said, ids in zip(items, written, codec.encode_answers(queries, written), strict=True):
    of_written = iter(ids or ())
    of_all = [next(of_written if one.ids is None else of_drawn, None) for one in item.answers]
    unfit = ids is None or codec.form.why_unfit(item.query, said) is not None
    found.append(None if unfit else of_all)
  return found


def _response(codec: Codec, answer: Answer, encoded: Response) -> Response:
  if answer.ids is not None and answer.codec is codec:
    return answer.ids
  return encoded._replace(finished=answer.finished)


def _padded(length: int, limit: int) -> int:
  return min(-(-length // _LENGTH_STEP) * _LENGTH_STEP, limit)
