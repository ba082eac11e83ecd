"""A chosen and a rejected side: answers to a query beside them, or dialogues that share one."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from apo_jax.data.answers import (
  asked_of,
  canonical,
  query_of,
  response_of,
  response_of_messages,
  taken_apart,
  turns_of,
  with_system,
)
from apo_jax.data.bad_rows import BadRow
from apo_jax.data.candidates import Candidate
from apo_jax.data.columns import CONVERSATION, QUERY, RowView, is_harmless, says_nothing
from apo_jax.data.dialogue import ANSWER, Message
from apo_jax.data.formats.pair_scores import pair_of, words
from apo_jax.data.messages import is_answer, listed, messages_of, written_list
from apo_jax.data.values import field, query_id_of, shown, text_of

# The names of the two sides, the better one first.
SIDES = (
  ("chosen", "rejected"),
  ("chosen_response", "rejected_response"),
  ("chosen_answer", "rejected_answer"),
  ("chosen_output", "rejected_output"),
  ("accepted", "rejected"),
  ("preferred", "dispreferred"),
  ("better_response", "worse_response"),
)
_NOTHING_SHARED = "it has a chosen and a rejected side that share no query"
# A text's last line may begin so before the answer.
_ANSWER_WORD = re.compile(r"(?:^|\n)[ \t]*(?:Assistant|Answer|A|AI|Bot|Response)[ \t]*:[ \t]*\Z")


def sides_named(columns: Mapping[str, Any]) -> tuple[str, str] | None:
  """The names of the two sides among the columns; of the usual ones, one may be missing."""
  return _sides_among(frozenset(columns))


@functools.lru_cache(maxsize=1024)
def _sides_among(names: frozenset[str]) -> tuple[str, str] | None:
  both = [sides for sides in SIDES if names >= set(sides)]
  one = [sides for sides in SIDES[:2] if names & set(sides)]
  return next(iter([*both, *one]), None)


def has_sides(columns: Mapping[str, Any]) -> bool:
  """Whether there is a chosen or a rejected side."""
  return sides_named(columns) is not None


def are_lists_of_texts(columns: Mapping[str, Any]) -> bool:
  """Whether both sides are lists of texts (RewardBench 2)."""
  sides = _of(columns)
  return bool(sides) and all(
    isinstance(side, list | tuple) and side and all(isinstance(one, str) for one in side)
    for side in sides
  )


def are_answers_as_messages(columns: Mapping[str, Any]) -> bool:
  """Whether the sides are messages that begin with the assistant's, behind a query."""
  sides = _of(columns)
  return _has_query(columns) and any(is_answer(_listed(side)) for side in sides)


def are_conversations(columns: Mapping[str, Any]) -> bool:
  """Whether the sides are lists of messages."""
  sides = _of(columns)
  return bool(sides) and all(isinstance(_listed(side), list | tuple | Mapping) for side in sides)


def are_dialogues(columns: Mapping[str, Any]) -> bool:
  """Whether the sides are texts in HH form; beside a prompt, they must begin with it."""
  sides = _of(columns)
  if len(sides) < 2 or not all(isinstance(side, str) for side in sides):
    return False
  prompt = next((columns[name] for name in QUERY if not says_nothing(columns.get(name))), None)
  whole = [ANSWER in side and side.lstrip().startswith(("Human:", "System:")) for side in sides]
  if prompt is None:
    return any(whole)
  # An answer may quote a dialogue: these begin with the prompt, or have it as a turn.
  return isinstance(prompt, str) and (
    all(_begins_with(side, prompt) for side in sides)
    or (all(whole) and words(f"Human: {prompt} Assistant:") in words(shared_start(*sides)))
  )


def lack_query(columns: Mapping[str, Any]) -> bool:
  """Whether there are sides, and no column that can be their query."""
  return has_sides(columns) and not _has_query(columns)


def lists_of_texts(row: RowView) -> Candidate:
  """Every text of the chosen side above every text of the rejected one."""
  query, behind = asked_of(row)
  responses, scores = [], []
  for name, score in zip(_names(row), (1.0, 0.0), strict=True):
    texts = field(row, name)
    responses += [response_of(text, name, behind=behind) for text in texts]
    scores += [score] * len(texts)
  return Candidate(query_id_of(row), query, tuple(responses), tuple(scores))


def answers(row: RowView) -> Candidate:
  """Two answers to a query in a column of its own."""
  query, behind = asked_of(row)
  sides = [field(row, name) for name in _names(row)]
  for name, side in zip(_names(row), sides, strict=True):
    if isinstance(side, list | tuple) and all(isinstance(one, str) for one in side) and side:
      raise BadRow("wrong field", f"{name} is {shown(side)}, while the other side is no list")
  if all(isinstance(side, str) and _lists_texts(side) for side in sides):
    problem = f"{_names(row)[0]} is the text {shown(sides[0])}: a list, or an answer that is one?"
    raise BadRow("list as text", problem)
  named = zip(_names(row), sides, strict=True)
  return pair_of(row, query, [response_of(side, name, behind=behind) for name, side in named])


def dialogues(row: RowView) -> Candidate:
  """Two whole dialogues as texts (HH-RLHF)."""
  names = _names(row)
  sides = [text_of(field(row, name), name) for name in names]
  for name, text in zip(names, sides, strict=True):
    if ANSWER not in text and not text.lstrip().startswith(ANSWER.lstrip()):
      raise BadRow("no assistant turn", f"it has no turn of the assistant in {name}")
  prompt = next((name for name in QUERY if not says_nothing(row.peek(name))), None)
  if prompt is None or not all(_begins_with(text, row.peek(prompt)) for text in sides):
    start, answer, _ = shared_start(*sides).rpartition(ANSWER)
    if not answer:
      raise BadRow("sides of different queries", _NOTHING_SHARED)
    query = query_of_text(row, start + answer, names[0])
    row.get(prompt or "")
    rests = [text.removeprefix(start + answer) for text in sides]
  else:
    query = asked_of(row).query
    begin = len(row[prompt].strip())
    rests = [text.strip()[begin:] for text in sides]
  # Blanks at the end of a text of many turns are the file's, not the answer's.
  return pair_of(
    row, query, [response_of(text.rstrip(), names[0], behind="open dialogue") for text in rests]
  )


def query_of_text(row: RowView, text: str, name: str) -> str:
  """The canonical query of a text, behind the row's own system turn if there is one."""
  if any(not says_nothing(row.peek(one)) for one in ("system", "system_prompt", "system_message")):
    return canonical(with_system(row, turns_of(text, name)), name)
  return query_of(text, name)


def conversations(row: RowView) -> Candidate:
  """Two whole conversations as messages; a prompt beside them must be a part of both."""
  names = _names(row)
  return _of_conversations(row, names, [messages_of(field(row, name), name) for name in names])


def _of_conversations(
  row: RowView, names: tuple[str, str], sides: Sequence[Sequence[Message]]
) -> Candidate:
  for name, messages in zip(names, sides, strict=True):
    if not any(message.role == "assistant" for message in messages):
      raise BadRow("no assistant turn", f"it has no message of the assistant in {name}")
  start = shared_turns(*sides)
  if not start:
    raise BadRow("sides of different queries", _NOTHING_SHARED)
  query = canonical(with_system(row, sides[0][:start]), names[0])
  _check_other_queries(row, sides[0], start)
  pairs = zip(names, sides, strict=True)
  return pair_of(row, query, [response_of_messages(side[start:], name) for name, side in pairs])


def texts_with_shared_start(row: RowView) -> Candidate:
  """Two texts whose query is what both begin with, up to a line's end or an answer's marker."""
  names = _names(row)
  # A text that was a list of messages, and cannot be read back, is refused as what it is.
  sides = [text_of(listed(field(row, name), name), name) for name in names]
  if sides[0].strip() == sides[1].strip():
    raise BadRow("all sides equal", "it has the same text as chosen and as rejected")
  written = [taken_apart(text, name) for text, name in zip(sides, names, strict=True)]
  if all(written):
    return _of_conversations(row, names, written)
  other = next((name for name in row.said if name not in names and _may_be_query(row, name)), None)
  if other is not None:
    problem = f"no column of it is a query by its name; if {other} is, call it 'prompt', else drop"
    raise BadRow("unread column", f"{problem} it")
  shared = shared_start(*sides)
  if not _ANSWER_WORD.search(shared):
    shared = shared[: shared.rfind("\n") + 1]
    word = re.match(r"[ \t]*(?:Assistant|Answer|A|AI|Bot|Response)[ \t]*:", sides[0][len(shared) :])
    if word and sides[1][len(shared) :].startswith(word.group()):
      shared += word.group()
  if not shared.strip():
    raise BadRow("sides of different queries", f"{_NOTHING_SHARED}, up to the end of a line")
  if shared.rstrip().endswith(ANSWER.strip()):
    turns_of(shared, names[0])  # which says where a dialogue begins with text that is nobody's
  responses = [response_of(text.removeprefix(shared), names[0]) for text in sides]
  question = _ANSWER_WORD.sub("", shared)
  question = re.sub(r"\A\s*(?:Human|User|Question|Q)[ \t]*:", "", question)
  return pair_of(row, query_of_text(row, question, names[0]), responses)


def shared_start(one: str, other: str) -> str:
  """What two texts both begin with."""
  low, high = 0, min(len(one), len(other))
  while low < high:
    # Texts are long and many: slices are compared much faster than letters.
    middle = (low + high + 1) // 2
    low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
  return one[:low]


def shared_turns(one: Sequence[Message], other: Sequence[Message]) -> int:
  """How many turns lie before the last answer up to which both are the same."""
  start = 0
  for index, (left, right) in enumerate(zip(one, other, strict=False)):
    if left.role == right.role == "assistant":
      start = index
    if left.role != right.role or left.content.strip() != right.content.strip():
      break
  return start


def _check_other_queries(row: RowView, side: Sequence[Message], start: int) -> None:
  """Raises BadRow where a query beside whole conversations says something else than they."""
  whole = [words(message.content) for message in side]
  asked = [message.role != "system" for message in side].index(True)
  for name in QUERY:
    value = row.peek(name)
    if says_nothing(value):
      continue
    value = _listed(value)
    if isinstance(value, str):
      said = words(value)
      # It may be one turn, or the whole query in some form of text.
      same = said in whole[:start] or all(turn in said for turn in whole[asked:start])
    else:
      said = [words(message.content) for message in messages_of(value, name)]
      same = said in (whole[:start], whole[asked:start], whole, whole[asked:])
    if not same:
      raise BadRow("sides of different queries", f"{name} is not what its two sides begin with")
    row.get(name)


def _names(row: RowView) -> tuple[str, str]:
  names = sides_named({name: row.peek(name) for name in row.said})
  names = names or sides_named(dict.fromkeys(row))
  if names is None:
    raise BadRow("missing field", "it has no field 'chosen'")
  return names


def _of(columns: Mapping[str, Any]) -> list[Any]:
  names = sides_named(columns)
  return [columns[name] for name in names or () if name in columns]


def _listed(value: Any) -> Any:
  try:
    return listed(value, "")
  except BadRow:
    return value


def _has_query(columns: Mapping[str, Any]) -> bool:
  return any(not says_nothing(columns.get(name)) for name in QUERY)


def _begins_with(side: str, prompt: str) -> bool:
  """Whether a side is the prompt and what comes behind it, not an answer that repeats it."""
  start = prompt.strip()
  return side.strip().startswith(start) and start.endswith("Assistant:")


def _lists_texts(text: str) -> bool:
  found = written_list(text)
  return isinstance(found, list) and all(isinstance(one, str) for one in found)


def _may_be_query(row: RowView, name: str) -> bool:
  value = row.peek(name)
  known = name in CONVERSATION or name in ("system", "system_prompt", "system_message")
  return isinstance(value, str) and not known and not is_harmless(name)
