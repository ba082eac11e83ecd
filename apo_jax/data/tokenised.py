"""The data as token ids, made once: whatever samples, scores or trains later reads these."""

import dataclasses
from array import array
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from apo_jax.data.records import Demonstration, GameData, Preference, Query, Split
from apo_jax.data.tokens import Codec
from apo_jax.rows.rows import Item, Response

Record = TypeVar("Record", Query, Demonstration, Preference)

# Records whose ids are Python lists at a time, before they are packed.
_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class Tokenised(Generic[Record]):
  """A record and its ids, packed as 32-bit integers.

  Attributes:
    record: of text.
    query: the query's ids, at most the codec's `query_length`.
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
  """All data of a game (`records.GameData`)."""

  demonstrations: tuple[Tokenised[Demonstration], ...]
  reward: TokenisedSplit
  policy: TokenisedSplit
  test: TokenisedSplit
  utility: Callable[[str, str], float] | None


def tokenise(codec: Codec, data: GameData) -> TokenisedData:
  """The ids of all data.

  Raises:
    ConfigError: the chat template refuses a query.
  """

  def split(part: Split) -> TokenisedSplit:
    return TokenisedSplit(*(tokenise_records(codec, records) for records in vars(part).values()))

  return TokenisedData(
    demonstrations=tokenise_records(codec, data.demonstrations),
    reward=split(data.reward),
    policy=split(data.policy),
    test=split(data.test),
    utility=data.utility,
  )


def tokenise_records(codec: Codec, records: Sequence[Record]) -> tuple[Tokenised[Record], ...]:
  """The ids of some records, in their order."""
  chunks = [records[start : start + _CHUNK] for start in range(0, len(records), _CHUNK)]
  return tuple(one for chunk in chunks for one in _tokenise(codec, chunk))


def _tokenise(codec: Codec, records: Sequence[Record]) -> list[Tokenised[Record]]:
  queries = codec.form.query_ids([record.query for record in records])
  texts = [text for record in records for text in responses_of(record)]
  responses = iter(
    [Response(array("i", ids), finished) for ids, finished in codec.encode_responses(texts)]
  )
  return [
    Tokenised(
      record=record,
      query=array("i", codec.cut_query(ids)),
      is_cut=len(ids) > codec.query_length,
      responses=tuple(next(responses) for _ in responses_of(record)),
    )
    for record, ids in zip(records, queries, strict=True)
  ]


def responses_of(record: Query | Demonstration | Preference) -> tuple[str, ...]:
  """The responses a record holds."""
  if isinstance(record, Preference):
    return record.responses
  return (record.response,) if isinstance(record, Demonstration) else ()


def truncated(data: TokenisedData) -> dict[str, dict[str, int]]:
  """How many texts of each list of records are too long and lose a part.

  Returns:
    For each list, such as "reward.preferences", counts of its queries and responses
    ("queries", "responses") and of those that are cut ("cut_queries", "cut_responses").
  """
  lists = {"demonstrations": data.demonstrations}
  for side in ("reward", "policy", "test"):
    lists |= {f"{side}.{name}": records for name, records in vars(getattr(data, side)).items()}
  return {name: _count_cut(records) for name, records in lists.items()}


def _count_cut(records: Sequence[Tokenised]) -> dict[str, int]:
  responses = [response for record in records for response in record.responses]
  return {
    "queries": len(records),
    "cut_queries": sum(record.is_cut for record in records),
    "responses": len(responses),
    "cut_responses": sum(not response.finished for response in responses),
  }
