"""What one row of any format says, and the record it becomes where it is good enough.

    row  --format-->  Candidate  --kind-->  Preference, Demonstration or Query

A format's parser only finds the parts; what a record must fulfil is checked here, once.
"""

import hashlib
import math
import reprlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.dialogue import (
  Message,
  Role,
  find_marker,
  parse_query,
  render_query,
  render_response,
)
from apo_jax.data.records import Demonstration, Preference, Query

Kind = Literal["preferences", "demonstrations", "queries"]
Record = Preference | Demonstration | Query
Row = Mapping[str, Any]

_LARGEST = sys.float_info.max
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


class Candidate(NamedTuple):
  """The parts of a row, its texts in the canonical form (data/dialogue.py).

  Attributes:
    query_id: the row's own, or None.
    query: None where another file holds the query of this id.
    responses: any number, some maybe blank.
    scores: one for each response, finite and at least 0.
    unfit: why the row is good for its query alone, if it is.
  """

  query_id: str | None
  query: str | None
  responses: tuple[str, ...] = ()
  scores: tuple[float, ...] = ()
  unfit: BadRow | None = None


def to_record(candidate: Candidate, kind: Kind, queries: Mapping[str, str]) -> Record:
  """The record of a candidate.

  Args:
    candidate: what a row says.
    kind: which record is wanted; the best response of several is the one of a demonstration.
    queries: the queries by id, for a candidate without one.

  Raises:
    BadRow: the candidate is not good enough for such a record.
  """
  query = candidate.query
  if query is None:
    query = queries.get(candidate.query_id or "")
  if query is None:
    raise BadRow(
      "missing field",
      f"it has no query, and none of config.data.queries has its id {candidate.query_id!r}",
    )
  query_id = candidate.query_id or hashlib.sha256(query.encode()).hexdigest()[:16]
  if kind == "queries":
    return Query(query_id, query)
  if candidate.unfit is not None:
    raise candidate.unfit
  make = _preference if kind == "preferences" else _demonstration
  return make(query_id, query, candidate.responses, candidate.scores)


def _preference(
  query_id: str, query: str, responses: tuple[str, ...], scores: tuple[float, ...]
) -> Preference:
  if len(responses) < 2:
    raise BadRow(
      "missing field", f"it has {len(responses)} responses; a preference needs 2 or more"
    )
  blank = sum(not text.strip() for text in responses)
  if blank:
    raise BadRow(
      "empty response", f"it has {len(responses)} responses, of which {blank} say nothing"
    )
  if len(set(responses)) == 1:
    raise BadRow("all sides equal", f"it has the response {shown(responses[0])} on every side")
  if len(set(scores)) == 1:
    raise BadRow("all sides equal", "it has the same score on every side")
  return Preference(query_id, query, responses, scores)


def _demonstration(
  query_id: str, query: str, responses: tuple[str, ...], scores: tuple[float, ...]
) -> Demonstration:
  if not responses:
    raise BadRow("missing field", "it has no response")
  best = responses[scores.index(max(scores))]
  if not best.strip():
    raise BadRow("empty response", "its response is blank; it must be a text that is not empty")
  marker = find_marker(best)
  if marker:
    # In a preference people judged such a text; as an example it would teach to write both parts.
    raise BadRow(
      "turn marker inside a message", f"it has the turn marker {marker!r} in its response"
    )
  return Demonstration(query_id, query, best)


def shown(value: Any) -> str:
  """A value for a message, cut to a readable length."""
  return _SHORT.repr(value)


def present(row: Row, names: Sequence[str]) -> str:
  """The first of the names that the row has a value for.

  Raises:
    BadRow: it has none of them.
  """
  for name in names:
    if row.get(name) is not None:
      return name
  first, *others = map(repr, names)
  also = f" (or {', '.join(others)})" if others else ""
  raise BadRow("missing field", f"it has no field {first}{also}")


def field(row: Row, name: str) -> Any:
  """The value of this name.

  Raises:
    BadRow: there is none, or it is None.
  """
  return row[present(row, [name])]


def text_of(value: Any, name: str) -> str:
  """A value that must be a text, as it is.

  Raises:
    BadRow: it is no text, or holds what is no character.
  """
  if not isinstance(value, str):
    raise BadRow("wrong field", f"{name} is {shown(value)}; it must be a text")
  try:
    value.encode()
  except UnicodeEncodeError as error:
    found = value[error.start]
    raise BadRow("not UTF-8", f"{name} holds {found!r}, which is no character") from error
  return value


def query_id_of(row: Row) -> str | None:
  """The row's own id, if any; a number is written as a text.

  Raises:
    BadRow: it is neither a text nor a whole number.
  """
  for name in ("query_id", "prompt_id", "id"):
    value = row.get(name)
    if value is None:
      continue
    if type(value) is int:
      return str(value)
    if not isinstance(value, str) or not value.strip():
      raise BadRow("wrong field", f"{name} is {value!r}; it must be a text or a whole number")
    return text_of(value, name)
  return None


def query_of(value: Any, name: str) -> str:
  """The canonical query of a text (a plain prompt, or a dialogue in HH form) or of messages.

  Raises:
    BadRow: there is no question in it, or its turns cannot be written in the canonical form.
  """
  if not isinstance(value, str):
    return _canonical(messages_of(value, name), name)
  text = text_of(value, name).strip()
  if not text:
    raise BadRow("empty query", f"{name} is {value!r}; it must be a text that is not empty")
  try:
    # The marker of the first turn may have lost its line breaks.
    return _canonical(parse_query(f"\n\n{text}"), name)
  except ValueError as error:
    raise BadRow("turn marker inside a message", f"{name} is a prompt, but {error}") from error


def response_of(value: Any, name: str) -> str:
  """The canonical response of a text or of messages that begin with the assistant's; maybe blank.

  Raises:
    BadRow: it is neither, or its turns cannot be written in the canonical form.
  """
  if isinstance(value, str):
    return f" {text_of(value, name).strip()}"
  return response_of_messages(messages_of(value, name), name)


def response_of_messages(messages: Sequence[Message], name: str) -> str:
  """The canonical response of messages.

  Raises:
    BadRow: they begin with a turn that is not the assistant's, or cannot be written.
  """
  if not messages or messages[0].role != "assistant":
    raise BadRow("no assistant turn", f"{name} has no assistant message where the answer begins")
  try:
    return render_response(messages)
  except ValueError as error:
    raise BadRow("turn marker inside a message", f"{name} is wrong: {error}") from error


def messages_of(value: Any, name: str) -> tuple[Message, ...]:
  """The messages of a list of {"role", "content"}, contents stripped.

  Raises:
    BadRow: it is no such list.
  """
  if not isinstance(value, list | tuple) or not all(isinstance(turn, Mapping) for turn in value):
    raise BadRow("wrong field", f"{name} is {shown(value)}; it must be a text or messages")
  messages = []
  for turn in value:
    role = turn.get("role")
    if role not in get_args(Role):
      raise BadRow("wrong turns", f"{name} has a message of the role {role!r}")
    messages.append(Message(role, text_of(field(turn, "content"), f"{name}.content").strip()))
  return tuple(messages)


def scores_of(values: Any, count: int) -> tuple[float, ...]:
  """One score for each of `count` responses, at least 0: only their order is read.

  The losses take a score below 0 for padding, so that a row which has one is shifted up.

  Raises:
    BadRow: there are not so many, one is no finite number, or they are too far apart to shift.
  """
  if not isinstance(values, list | tuple) or len(values) != count:
    raise BadRow("wrong scores", "responses and scores must be lists of one length")
  # True is not a fine 1, and a whole number may be too large for a float.
  if not all(type(score) in (int, float) and abs(score) <= _LARGEST for score in values):
    raise BadRow("wrong scores", f"scores is {shown(list(values))}; each must be a finite number")
  scores = [float(score) for score in values]
  lowest = min([0.0, *scores])
  shifted = tuple(score - lowest for score in scores)
  if len(set(shifted)) < len(set(scores)) or math.inf in shifted:
    raise BadRow(
      "wrong scores", f"scores is {shown(scores)}, too far apart to be shifted to 0 and above"
    )
  return shifted


def _canonical(messages: Sequence[Message], name: str) -> str:
  if any(message.role == "system" for message in messages[1:]):
    raise BadRow("wrong turns", f"{name} has a system turn that is not the first")
  if not any(message.role == "user" and message.content for message in messages):
    raise BadRow("empty query", f"{name} has no user turn that is not empty")
  try:
    return render_query(messages)
  except ValueError as error:
    raise BadRow("turn marker inside a message", f"{name} is wrong: {error}") from error
