"""The data as token ids, made once: whatever samples, scores or trains later reads these.

No response is cut: what is judged is judged whole. A query loses its left where it is longer than
`query_length`, or where the longest of the record's responses needs the room; samples to it are
drawn behind what is left. A response that does not fit a row at all is left out, and so is a
preference of which no two responses are left that differ and are scored differently, and what the
run's form would read as something else.
"""

import collections
import dataclasses
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from apo_jax.config.fields import ConfigError
from apo_jax.data.records import Demonstration, GameData, Preference, Query, Split
from apo_jax.data.tokens import Codec
from apo_jax.rows.rows import NO_SCORE, Item, Response, distinct_scores

Record = TypeVar("Record", Query, Demonstration, Preference)

# Records whose ids are Python lists at a time, before they are packed.
_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class Tokenised(Generic[Record]):
  """A record and its ids, packed as 32-bit integers.

  Attributes:
    record: of text; of a preference without the responses that are left out.
    query: the query's ids, as many as fit.
    is_cut: whether the query was longer, and lost its left.
    responses: those that the record holds, in its order.
  """

  record: Record
  query: Sequence[int]
  is_cut: bool
  responses: tuple[Response, ...]

  @property
  def item(self) -> Item:
    """What rows are made from."""
    return self.query, self.responses


@dataclasses.dataclass(frozen=True)
class TokenisedSplit:
  """One player's data (`records.Split`)."""

  preferences: tuple[Tokenised[Preference], ...]
  golden: tuple[Tokenised[Demonstration], ...]
  queries: tuple[Tokenised[Query], ...]


@dataclasses.dataclass(frozen=True)
class TokenisedData:
  """All data of a game (`records.GameData`), and what of it is left out.

  Attributes:
    left_out: for lists of records, such as "reward.preferences", how many of their records are left
      out by reason: "too long", "equal responses", or what `Form.why_unfit` says.
  """

  demonstrations: tuple[Tokenised[Demonstration], ...]
  reward: TokenisedSplit
  policy: TokenisedSplit
  test: TokenisedSplit
  utility: Callable[[str, str], float] | None
  left_out: Mapping[str, Mapping[str, int]]


def tokenise(codec: Codec, data: GameData) -> TokenisedData:
  """The ids of all data.

  Raises:
    ConfigError: the chat template refuses a query, or nothing of a list is left.
  """
  left_out: dict[str, dict[str, int]] = {}

  def kept(name: str, records: Sequence[Record], length: int) -> tuple[Tokenised[Record], ...]:
    made = _tokenise_or_say_why(codec, records, length)
    reasons = collections.Counter(one for one in made if isinstance(one, str))
    found = tuple(one for one in made if not isinstance(one, str))
    if records and not found:
      raise ConfigError(_nothing_left(name, reasons, length))
    left_out[name] = dict(reasons)
    return found

  def split(name: str, part: Split, length: int) -> TokenisedSplit:
    lists = vars(part).items()
    return TokenisedSplit(*(kept(f"{name}.{field}", some, length) for field, some in lists))

  return TokenisedData(
    demonstrations=kept("demonstrations", data.demonstrations, codec.row_length),
    reward=split("reward", data.reward, codec.row_length),
    policy=split("policy", data.policy, codec.row_length),
    test=split("test", data.test, codec.judged_length),
    utility=data.utility,
    left_out=left_out,
  )


def tokenise_records(
  codec: Codec, records: Sequence[Record], length: int | None = None
) -> tuple[Tokenised[Record], ...]:
  """The ids of those records that fit rows of a length, by default training's, in their order."""
  made = _tokenise_or_say_why(codec, records, length or codec.row_length)
  return tuple(one for one in made if not isinstance(one, str))


def _tokenise_or_say_why(
  codec: Codec, records: Sequence[Record], length: int
) -> list[Tokenised[Record] | str]:
  """Each record for rows of a length, or a word of `TokenisedData.left_out`."""
  chunks = [records[start : start + _CHUNK] for start in range(0, len(records), _CHUNK)]
  return [one for chunk in chunks for one in _tokenise(codec, chunk, length)]


def _tokenise(
  codec: Codec, records: Sequence[Record], length: int
) -> Iterator[Tokenised[Record] | str]:
  texts = [record.query for record in records]
  answers = [responses_of(record) for record in records]
  reasons = [codec.form.why_unfit(*one) for one in zip(texts, answers, strict=True)]
  fit = [place for place, reason in enumerate(reasons) if reason is None]
  queries = iter(codec.form.query_ids([texts[place] for place in fit]))
  encoded = iter(
    codec.encode_answers([texts[place] for place in fit], [answers[place] for place in fit])
  )
  for record, reason in zip(records, reasons, strict=True):
    if reason is not None:
      yield reason
      continue
    ids, responses = next(queries), next(encoded)
    if responses is None:
      yield "later turns that change the query"
    else:
      yield _fitted(codec, record, ids, responses, length)


def _fitted(
  codec: Codec, record: Record, ids: list[int], responses: list[Response], length: int
) -> Tokenised[Record] | str:
  """The record in a row of a length, or why it is left out."""
  most = length - codec.shortest_query
  fitting = [response.num_slots <= most for response in responses]
  stays = fitting
  if isinstance(record, Preference):
    scores = distinct_scores(responses, record.scores)
    stays = [fits and score != NO_SCORE for fits, score in zip(fitting, scores, strict=True)]
    if len({score for score, stay in zip(scores, stays, strict=True) if stay}) < 2:
      return "equal responses" if all(fitting) else "too long"
    record = _with_responses(record, stays)
  elif not all(fitting):
    return "too long"
  kept = [response for response, stay in zip(responses, stays, strict=True) if stay]
  longest = max((response.num_slots for response in kept), default=0)
  query = codec.cut_query(record.query, ids, min(codec.query_length, length - longest))
  if query is None:
    return "too long"
  return Tokenised(
    record=record,
    query=array("i", query),
    is_cut=query is not ids,
    responses=tuple(one._replace(tokens=array("i", one.tokens)) for one in kept),
  )


def _with_responses(preference: Preference, stays: Sequence[bool]) -> Preference:
  """The preference with those responses alone that stay."""
  pairs = zip(preference.responses, preference.scores, stays, strict=True)
  responses, scores = zip(*((text, score) for text, score, stay in pairs if stay), strict=True)
  return dataclasses.replace(preference, responses=responses, scores=scores)


def _nothing_left(name: str, reasons: Mapping[str, int], length: int) -> str:
  if reasons.get("too long"):
    return (
      f"config.data.row_length is {length}, and no row of {name} fits it"
      f" ({reasons['too long']:,} are too long); give more, so that responses are judged whole."
    )
  if set(reasons) == {"equal responses"}:
    return f"In every row of {name} all responses are equal; there is nothing to learn from."
  counts = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items())
  return (
    f"config.data: no row of {name} can be written in the run's form of dialogues ({counts}); give "
    "rows without that, or another config.data.chat_template."
  )


def responses_of(record: Query | Demonstration | Preference) -> tuple[str, ...]:
  """The responses a record holds."""
  if isinstance(record, Preference):
    return record.responses
  return (record.response,) if isinstance(record, Demonstration) else ()


def cut_and_left_out(data: TokenisedData) -> dict[str, dict[str, int]]:
  """How many records of each list are used, lose the left of their query, or are left out and why.

  Returns:
    For each list, such as "reward.preferences": "records", "cut_queries" and the reasons of
    `TokenisedData.left_out`.
  """
  lists = {"demonstrations": data.demonstrations}
  for side in ("reward", "policy", "test"):
    lists |= {f"{side}.{name}": records for name, records in vars(getattr(data, side)).items()}
  return {
    name: {
      "records": len(records),
      "cut_queries": sum(record.is_cut for record in records),
      **data.left_out[name],
    }
    for name, records in lists.items()
  }
