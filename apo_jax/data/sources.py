"""Where a game's data comes from: the embedded small world, or JSONL files.

Each file holds one record a line, as `records` defines them:

  demonstrations, golden   {"query_id": …, "query": …, "response": …}
  queries                  {"query_id": …, "query": …}
  preferences              {"query_id": …, "query": …, "responses": […], "scores": […]}

Every query belongs to one side, the reward model's, the policy's or the test's, by a hash of its
text; demonstrations may be of the first two.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from apo_jax.config import Config, ConfigError
from apo_jax.data import toy_dialogues
from apo_jax.data.records import Demonstration, GameData, Preference, Query, Split
from apo_jax.files import json_line, read_jsonl

Record = TypeVar("Record", Query, Demonstration, Preference)

# Of 20 queries, by hash of their text: 9 for each player and 2 to test on.
_SIDES = ("reward",) * 9 + ("policy",) * 9 + ("test",) * 2


def load_data(config: Config) -> GameData:
  """The data of a run.

  Raises:
    ConfigError: a file or a side of the split is empty, or a record is not as described above;
      the message names the field, the file and the record.
  """
  data = config.data
  if data.source == "embedded":
    try:
      return toy_dialogues.generate(
        config.seed,
        num_demonstrations=data.num_demonstrations,
        num_preferences=data.num_preferences,
        num_golden=data.num_golden,
        num_queries=data.num_queries,
        num_test=data.num_test,
      )
    except ValueError as error:
      raise ConfigError(f"config.data: {error}") from error
  demonstrations: tuple[Demonstration, ...] = ()
  if data.demonstrations:
    demonstrations = _read("demonstrations", data.demonstrations, _demonstration)
  preferences = _read("preferences", data.preferences, _preference)
  golden = _read("golden", data.golden, _demonstration)
  queries = _read("queries", data.queries, _query)
  splits = {
    name: Split(
      preferences=_side(preferences, name),
      golden=_side(golden, name),
      queries=_side(queries, name),
    )
    for name in ("reward", "policy", "test")
  }
  for side, field in (
    ("reward", "preferences"),
    ("reward", "golden"),
    ("policy", "queries"),
    ("test", "preferences"),
    ("test", "golden"),
  ):
    if not getattr(splits[side], field):
      raise ConfigError(
        f"config.data.{field} is {getattr(data, field)!r}, of which no record falls to the {side} "
        "side of the split (queries are split by a hash of their text); give more records."
      )
  # The policy must not learn test queries at its start either.
  learned = tuple(record for record in demonstrations if side_of(record.query) != "test")
  if demonstrations and not learned:
    raise ConfigError(
      f"config.data.demonstrations is {data.demonstrations!r}, all of whose queries belong to the "
      "test side of the split (by a hash of their text); give more records."
    )
  return GameData(learned, splits["reward"], splits["policy"], splits["test"])


def fingerprint(data: GameData) -> str:
  """A hash of every record, for the provenance of a round."""
  lists: list[Sequence[Any]] = [data.demonstrations]
  for split in (data.reward, data.policy, data.test):
    lists += [split.preferences, split.golden, split.queries]
  digest = hashlib.sha256()
  for records in lists:
    # With its length first, no record can move to the next list unnoticed.
    digest.update(f"{len(records)}\n".encode())
    for record in records:
      digest.update(json_line(vars(record)).encode())
  return digest.hexdigest()


def side_of(query: str) -> str:
  """The side of the split that a query belongs to: "reward", "policy" or "test"."""
  digest = hashlib.sha256(query.encode()).digest()
  return _SIDES[int.from_bytes(digest[:8], "big") % len(_SIDES)]


def _side(records: Iterable[Record], name: str) -> tuple[Record, ...]:
  return tuple(record for record in records if side_of(record.query) == name)


def _read(
  field: str, path: str, parse: Callable[[Mapping[str, Any]], Record]
) -> tuple[Record, ...]:
  try:
    rows = read_jsonl(Path(path))
  except (OSError, ValueError) as error:
    raise ConfigError(f"config.data.{field} is {path!r}, which cannot be read: {error}") from error
  if not rows:
    raise ConfigError(f"config.data.{field} is {path!r}, which holds no record; give at least one.")
  records = []
  for number, row in enumerate(rows, start=1):
    try:
      records.append(parse(row))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
      problem = f"has no field {error}" if isinstance(error, KeyError) else f"is wrong: {error}"
      raise ConfigError(
        f"config.data.{field} is {path!r}, whose record {number} {problem}. The record is "
        f"{json.dumps(row)[:200]}."
      ) from error
  return tuple(records)


def _text(row: Mapping[str, Any], field: str) -> str:
  value = row[field]
  if not isinstance(value, str) or not value.strip():
    raise ValueError(f"{field} is {value!r}; it must be a text that is not empty")
  return _encodable(field, value)


def _encodable(field: str, text: str) -> str:
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise ValueError(f"{field} holds {text[error.start]!r}, which is no character") from error
  return text


def _query(row: Mapping[str, Any]) -> Query:
  return Query(_text(row, "query_id"), _text(row, "query"))


def _demonstration(row: Mapping[str, Any]) -> Demonstration:
  return Demonstration(_text(row, "query_id"), _text(row, "query"), _text(row, "response"))


def _preference(row: Mapping[str, Any]) -> Preference:
  responses, scores = row["responses"], row["scores"]
  if not isinstance(responses, list) or not all(isinstance(item, str) for item in responses):
    raise ValueError(f"responses is {responses!r}; it must be a list of texts")
  if len(responses) < 2 or not isinstance(scores, list) or len(scores) != len(responses):
    raise ValueError("responses and scores must be lists of one length, 2 or more")
  if not all(type(score) in (int, float) and 0 <= score < math.inf for score in scores):
    raise ValueError(f"scores is {scores!r}; each must be a number of 0 or more")
  # A response may be blank: saying nothing is a response that people have judged.
  responses = [_encodable("responses", response) for response in responses]
  query_id, query = _text(row, "query_id"), _text(row, "query")
  return Preference(query_id, query, tuple(responses), tuple(float(score) for score in scores))
