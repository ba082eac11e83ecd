"""One response to a query, with or without a label or a score; a query alone."""

from collections.abc import Mapping
from typing import Any

from apo_jax.data.answers import asked_of, canonical, response_of, response_of_messages, with_system
from apo_jax.data.bad_rows import BadRow
from apo_jax.data.candidates import Candidate, Kind
from apo_jax.data.columns import (
  CONVERSATION,
  LABELS,
  QUERY,
  RANKS,
  RESPONSE,
  SCORES,
  RowView,
  says_nothing,
)
from apo_jax.data.messages import listed, messages_of
from apo_jax.data.values import field, flag_of, number_of, present, query_id_of

# A label says of each response by itself whether it is wanted. A score says so only beside others.
_LABELLED: frozenset[Kind] = frozenset({"preferences"})
_SCORED: frozenset[Kind] = frozenset({"preferences", "demonstrations", "queries"})


def golden(row: RowView) -> Candidate:
  """A response that is wanted; its query may be in another file."""
  query, behind = None, "open dialogue"
  if any(row.peek(name) is not None for name in QUERY):
    query, behind = asked_of(row)
  response = response_of(field(row, "golden"), "golden", behind=behind)
  return Candidate(query_id_of(row), query, (response,), (1.0,))


def conversation(row: RowView) -> Candidate:
  """A conversation, whose last turn is the response."""
  name = present(row, CONVERSATION)
  messages = messages_of(row[name], name)
  if not messages or messages[-1].role != "assistant":
    query = canonical(with_system(row, messages), name)
    unfit = BadRow("no assistant turn", f"it has no message of the assistant at the end of {name}")
    return Candidate(query_id_of(row), query, unfit=unfit)
  query = canonical(with_system(row, messages[:-1]), name)
  return _judged(row, query, response_of_messages(messages[-1:], name))


def is_conversation(columns: Mapping[str, Any]) -> bool:
  """Whether a column is messages, to which no other column is the response."""
  if any(not says_nothing(columns.get(name)) for name in RESPONSE) and not _ends_answered(columns):
    return False
  return any(_is_messages(columns.get(name)) for name in CONVERSATION)


def query_and_response(row: RowView) -> Candidate:
  """A query and its response, which a label or a score may judge."""
  name = present(row, RESPONSE)
  query, behind = asked_of(row)
  return _judged(row, query, response_of(row[name], name, behind=behind))


def query_alone(row: RowView) -> Candidate:
  """A query."""
  return Candidate(query_id_of(row), asked_of(row).query)


def has_label(columns: Mapping[str, Any]) -> bool:
  """Whether there is a column that says whether a response is wanted."""
  return any(name in columns for name in LABELS)


def has_score(columns: Mapping[str, Any]) -> bool:
  """Whether there is a column that scores a response."""
  return any(name in columns for name in (*SCORES, *RANKS))


def _judged(row: RowView, query: str, response: str) -> Candidate:
  candidate = Candidate(query_id_of(row), query, (response,), (1.0,))
  labels = [name for name in LABELS if name in row]
  if labels:
    if all(row.peek(name) is None for name in labels):
      raise BadRow("missing field", f"its {labels[0]} is missing; it must be true or false")
    there = [name for name in labels if row.peek(name) is not None]
    said = [flag_of(row[name], name) for name in there]
    if len(set(said)) > 1:
      raise BadRow("contradiction", f"its {' and '.join(there)} contradict each other")
    unfit = None if said[0] else BadRow("unwanted response", f"its {there[0]} is false")
    return candidate._replace(scores=(float(said[0]),), unfit=unfit, joined_for=_LABELLED)
  name = next((one for one in (*SCORES, *RANKS) if not says_nothing(row.peek(one))), None)
  if name is None:
    return candidate
  value = number_of(row[name])
  if value is None:
    raise BadRow("wrong scores", f"{name} is {row[name]!r}; it must be a finite number")
  return candidate._replace(
    scores=(-value if name in RANKS else value,),
    unfit=BadRow(
      "nothing to compare",
      f"its {name} judges the only response to its query; drop the column if all are wanted",
    ),
    joined_for=_SCORED,
  )


def _is_messages(value: Any) -> bool:
  try:
    value = listed(value, "")
  except BadRow:
    return True
  return isinstance(value, list | tuple | Mapping)


def _ends_answered(columns: Mapping[str, Any]) -> bool:
  for name in CONVERSATION:
    if _is_messages(columns.get(name)):
      try:
        messages = messages_of(columns[name], name)
      except BadRow:
        return False
      return bool(messages) and messages[-1].role == "assistant"
  return False
