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
  ANSWER,
  Message,
  Role,
  find_marker,
  parse_query,
  quote_markers,
  render_query,
  render_response,
)
from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.data.written_dialogues import HalfWritten, take_apart, without_end, without_left_end

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

  A dialogue that a chat template has written already is taken apart.

  Raises:
    BadRow: there is no question in it, or its turns cannot be told apart.
  """
  if not isinstance(value, str):
    return _canonical(messages_of(value, name), name)
  text = text_of(value, name).strip()
  if not text:
    raise BadRow("empty query", f"{name} is {value!r}; it must be a text that is not empty")
  return _canonical(taken_apart(text, name) or _turns_of(text, name), name)


def is_dialogue(value: Any) -> bool:
  """Whether a prompt is text in HH form: then the markers in its responses open turns too."""
  return isinstance(value, str) and value.rstrip().endswith(ANSWER.strip())


def is_written(value: Any) -> bool:
  """Whether a prompt is text that a chat template has written: then so are its responses."""
  try:
    return isinstance(value, str) and take_apart(value) is not None
  except HalfWritten:
    return True


def response_of(value: Any, name: str, *, prompt: Any = None) -> str:
  """The canonical response of a text or of messages that begin with the assistant's; maybe blank.

  Args:
    value: the text or the messages.
    name: of the column.
    prompt: what it goes on behind, as the row has it. A marker in a text opens a turn only behind
      a text in HH form; else the text is one answer, whatever it says.

  Raises:
    BadRow: it is neither, or its turns cannot be told apart.
  """
  if not isinstance(value, str):
    return response_of_messages(messages_of(value, name), name)
  text = text_of(value, name)
  turns = taken_apart(text, name, is_answer=True)
  if turns:
    return response_of_messages(turns, name)
  said = without_end(text) if is_written(prompt) else without_left_end(text)
  return f" {said.strip() if is_dialogue(prompt) else quote_markers(said.strip())}"


def _turns_of(text: str, name: str) -> tuple[Message, ...]:
  """The turns of a prompt that is text; one that is in HH form neither here nor there is one."""
  try:
    # The marker of the first turn may have lost its line breaks.
    turns = parse_query(f"\n\n{text}")
  except ValueError as error:
    if is_dialogue(text):
      raise BadRow("turn marker inside a message", f"{name} is a prompt, but {error}") from error
    return (Message("user", text),)
  is_text = turns[0].role == "system" and not any(turn.role == "user" for turn in turns)
  return (Message("user", text),) if is_text and not is_dialogue(text) else turns


def taken_apart(text: str, name: str, *, is_answer: bool = False) -> tuple[Message, ...] | None:
  """The turns of a dialogue that a chat template has written already; None of other texts.

  Raises:
    BadRow: it begins as one, and cannot be taken apart.
  """
  try:
    turns = take_apart(text, is_answer=is_answer)
  except HalfWritten as error:
    raise BadRow(
      "written by a template", f"{name} is a dialogue that a chat template has written, but {error}"
    ) from error
  if turns and not is_answer and turns[-1] == Message("assistant", ""):
    return turns[:-1]
  if turns and is_answer and turns[0].role != "assistant":
    raise BadRow(
      "written by a template",
      f"{name} is a whole dialogue that a chat template has written; it must be the answer alone",
    )
  return turns


def response_of_messages(messages: Sequence[Message], name: str) -> str:
  """The canonical response of messages.

  Raises:
    BadRow: they begin with a turn that is not the assistant's.
  """
  if not messages or messages[0].role != "assistant":
    raise BadRow("no assistant turn", f"{name} has no assistant message where the answer begins")
  return render_response([_without_left_end(message) for message in messages])


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
  if len(messages) == 1:
    messages = taken_apart(messages[0].content, name) or messages
  if any(message.role == "system" for message in messages[1:]):
    raise BadRow("wrong turns", f"{name} has a system turn that is not the first")
  if not any(message.role == "user" and message.content for message in messages):
    raise BadRow("empty query", f"{name} has no user turn that is not empty")
  return render_query([_without_left_end(message) for message in messages])


def _without_left_end(message: Message) -> Message:
  if message.role != "assistant":
    return message
  return Message(message.role, without_left_end(message.content))
