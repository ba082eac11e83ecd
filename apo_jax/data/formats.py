"""The formats of preference data, told apart by their columns.

`FORMATS` is a table of name, what it gives, how it is known and how a row is read; the first that
knows the columns is taken, so that the special ones come before the general ones. A parser is a
pure function from a row to a `Candidate`. What a format gives, it also gives to fields that need
less: preferences hold demonstrations (their best responses) and queries.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.candidates import (
  Candidate,
  Kind,
  Row,
  field,
  messages_of,
  present,
  query_id_of,
  query_of,
  response_of,
  response_of_messages,
  scores_of,
  shown,
  taken_apart,
  text_of,
)
from apo_jax.data.dialogue import ANSWER, Message

QUERY = ("query", "prompt", "instruction")
RESPONSE = ("response", "completion", "output")
PAIR = ("chosen", "rejected")
SEPARATOR = "<sep>"

_NOTHING_SHARED = "it has a chosen and a rejected side that share no query"

# The values that the first rows hold of each column, None left out.
Columns = Mapping[str, Sequence[Any]]


class Format(NamedTuple):
  """One format.

  Attributes:
    name: completes "rows in … form".
    gives: the most that its rows hold.
    detect: whether the columns are of this format.
    parse: the parts of a row; raises BadRow where it is not in this form.
  """

  name: str
  gives: Kind
  detect: Callable[[Columns], bool]
  parse: Callable[[Row], Candidate]

  def can_give(self, kind: Kind) -> bool:
    """Whether such records can be had of its rows."""
    order: list[Kind] = ["queries", "demonstrations", "preferences"]
    return order.index(kind) <= order.index(self.gives)


def columns_of(rows: Iterable[Row]) -> dict[str, list[Any]]:
  """The columns of some rows."""
  columns: dict[str, list[Any]] = {}
  for row in rows:
    for name, value in row.items():
      if value is not None:
        columns.setdefault(name, []).append(value)
  return columns


def detect_format(columns: Columns) -> Format | None:
  """The format of these columns; None where no format knows them."""
  return next((form for form in FORMATS if form.detect(columns)), None)


def _k_wise(row: Row) -> Candidate:
  """A query, its responses, and one score for each."""
  responses = field(row, "responses")
  if not isinstance(responses, list | tuple) or not all(isinstance(one, str) for one in responses):
    raise BadRow("wrong field", f"responses is {shown(responses)}; it must be a list of texts")
  return Candidate(
    query_id_of(row),
    _query(row),
    tuple(_response(row, response, "responses") for response in responses),
    scores_of(field(row, "scores"), len(responses)),
  )


def _rated_completions(row: Row) -> Candidate:
  completions = field(row, "completions")
  if not isinstance(completions, list) or not all(isinstance(one, Mapping) for one in completions):
    raise BadRow(
      "wrong field", f"completions is {shown(completions)}; it must be a list of objects"
    )
  responses = tuple(_response(row, field(one, "response"), "response") for one in completions)
  return Candidate(query_id_of(row), _query(row), responses, _ratings(completions))


def _ratings(completions: Sequence[Row]) -> tuple[float, ...]:
  # All completions of a row are judged on one scale. The mean of the aspects comes first: of
  # UltraFeedback's overall_score it is known that some 10 was meant as 1.
  for rating in (_mean_rating, _number("fine-grained_score"), _number("overall_score")):
    scores = [rating(completion) for completion in completions]
    if None not in scores:
      return scores_of(scores, len(completions))
  raise BadRow(
    "wrong scores", "it has no annotations, fine-grained_score or overall_score on every completion"
  )


def _mean_rating(completion: Row) -> float | None:
  """The mean over the aspects that were rated; "N/A" is not."""
  annotations = completion.get("annotations")
  aspects = annotations.values() if isinstance(annotations, Mapping) else ()
  ratings = [_float(aspect.get("Rating")) for aspect in aspects if isinstance(aspect, Mapping)]
  given = [rating for rating in ratings if rating is not None]
  return sum(given) / len(given) if given else None


def _number(name: str) -> Callable[[Row], float | None]:
  return lambda completion: _float(completion.get(name))


def _float(value: Any) -> float | None:
  try:
    return None if value is None else float(value)
  except (TypeError, ValueError):
    return None


def _texts_with_separator(row: Row) -> Candidate:
  texts = field(row, "text")
  if not isinstance(texts, list | tuple):
    raise BadRow("wrong field", f"text is {shown(texts)}; it must be a list of texts")
  sides = [text_of(text, "text").partition(SEPARATOR) for text in texts]
  if not all(separator for _, separator, _ in sides):
    raise BadRow("missing field", f"it has a text without {SEPARATOR!r} between query and response")
  queries = {query_of(query, "text") for query, _, _ in sides}
  if len(queries) != 1:
    raise BadRow("sides of different queries", f"it has {len(queries)} queries in its texts")
  responses = tuple(response_of(response, "text", prompt=query) for query, _, response in sides)
  scores = scores_of(field(row, "scores"), len(texts))
  unfit = None
  if row.get("type") == "apo":
    # The reference repository writes such rows in the form of its human preferences.
    unfit = BadRow("no human preference", "it has the type 'apo': a golden response and samples")
  return Candidate(query_id_of(row), queries.pop(), responses, scores, unfit)


def _golden(row: Row) -> Candidate:
  query = _query(row) if any(row.get(name) is not None for name in QUERY) else None
  return Candidate(
    query_id_of(row), query, (_response(row, field(row, "golden"), "golden"),), (1.0,)
  )


def _whole_dialogues(row: Row) -> Candidate:
  sides = [text_of(field(row, name), name) for name in PAIR]
  for name, text in zip(PAIR, sides, strict=True):
    if ANSWER not in text:
      raise BadRow("no assistant turn", f"it has no turn of the assistant in {name}")
  start, answer, _ = _shared_start(*sides).rpartition(ANSWER)
  if not answer:
    raise BadRow("sides of different queries", _NOTHING_SHARED)
  responses = [
    response_of(text.removeprefix(start + answer), "chosen", prompt=start + answer)
    for text in sides
  ]
  return _pair(row, query_of(start + answer, "chosen"), responses)


def _sides_after_prompt(row: Row) -> Candidate:
  return _pair(row, _query(row), [_response(row, field(row, name), name) for name in PAIR])


def _whole_conversations(row: Row) -> Candidate:
  return _of_dialogues(row, [messages_of(field(row, name), name) for name in PAIR])


def _of_dialogues(row: Row, sides: Sequence[Sequence[Message]]) -> Candidate:
  """A preference of two whole dialogues."""
  for name, messages in zip(PAIR, sides, strict=True):
    if not any(message.role == "assistant" for message in messages):
      raise BadRow("no assistant turn", f"it has no message of the assistant in {name}")
  start = _shared_turns(*sides)
  if not start:
    raise BadRow("sides of different queries", _NOTHING_SHARED)
  query = query_of([vars(message) for message in sides[0][:start]], "chosen")
  return _pair(row, query, [response_of_messages(side[start:], "chosen") for side in sides])


def _shared_turns(one: Sequence[Message], other: Sequence[Message]) -> int:
  """How many turns lie before the last answer up to which both are the same."""
  start = 0
  for index, (left, right) in enumerate(zip(one, other, strict=False)):
    if left.role == right.role == "assistant":
      start = index
    if left != right:
      break
  return start


def _texts_with_shared_start(row: Row) -> Candidate:
  sides = [text_of(field(row, name), name) for name in PAIR]
  if sides[0].strip() == sides[1].strip():
    raise BadRow("all sides equal", "it has the same text as chosen and as rejected")
  dialogues = [taken_apart(text, name) for text, name in zip(sides, PAIR, strict=True)]
  if all(dialogues):
    return _of_dialogues(row, dialogues)
  shared = _shared_start(*sides)
  if any(text[len(shared) :][:1].strip() for text in sides):
    # A response begins with a whole word.
    shared = re.sub(r"\S+\Z", "", shared)
  if not shared.strip():
    raise BadRow("sides of different queries", _NOTHING_SHARED)
  responses = [response_of(text.removeprefix(shared), "chosen") for text in sides]
  return _pair(row, query_of(shared, "chosen"), responses)


def _shared_start(one: str, other: str) -> str:
  for index, (left, right) in enumerate(zip(one, other, strict=False)):
    if left != right:
      return one[:index]
  return min(one, other, key=len)


def _pair(row: Row, query: str, responses: Sequence[str]) -> Candidate:
  """Of a chosen and a rejected response, with their scores where the row has some."""
  given: Sequence[Any] = (1.0, 0.0)
  if row.get("score_chosen") is not None and row.get("score_rejected") is not None:
    given = (row["score_chosen"], row["score_rejected"])
  scores = scores_of(given, 2)
  if scores[0] < scores[1]:
    problem = f"score_chosen is {given[0]}, below score_rejected, which is {given[1]}"
    raise BadRow("wrong scores", problem)
  return Candidate(query_id_of(row), query, tuple(responses), scores)


def _conversation(row: Row) -> Candidate:
  messages = messages_of(field(row, "messages"), "messages")
  if not messages or messages[-1].role != "assistant":
    raise BadRow("no assistant turn", "it has no message of the assistant at the end of messages")
  query = query_of([vars(message) for message in messages[:-1]], "messages")
  return Candidate(
    query_id_of(row), query, (response_of_messages(messages[-1:], "messages"),), (1.0,)
  )


def _query_and_response(row: Row) -> Candidate:
  name = present(row, RESPONSE)
  return Candidate(query_id_of(row), _query(row), (_response(row, row[name], name),), (1.0,))


def _labelled_completion(row: Row) -> Candidate:
  label = field(row, "label")
  if label not in (True, False):
    raise BadRow("wrong field", f"label is {shown(label)}; it must be true or false")
  unfit = None if label else BadRow("unwanted response", "it has a completion of the label false")
  return _query_and_response(row)._replace(unfit=unfit)


def _query_alone(row: Row) -> Candidate:
  return Candidate(query_id_of(row), _query(row))


def _query(row: Row) -> str:
  name = present(row, QUERY)
  text = row[name]
  more = row.get("input")
  if name == "instruction" and isinstance(text, str) and isinstance(more, str) and more.strip():
    # Alpaca's way to give what the instruction is about.
    text = f"{text}\n\n{more}"
  return query_of(text, name)


def _response(row: Row, value: Any, name: str) -> str:
  """A response of a row that has its query in a column of its own."""
  prompt = next((row[one] for one in QUERY if row.get(one) is not None), None)
  return response_of(value, name, prompt=prompt)


def _has(*names: str) -> Callable[[Columns], bool]:
  """Whether all these columns are there."""
  return lambda columns: columns.keys() >= set(names)


def _has_query(columns: Columns) -> bool:
  return _any_of(columns, QUERY)


def _has_query_and_response(columns: Columns) -> bool:
  return _any_of(columns, QUERY) and _any_of(columns, RESPONSE)


def _any_of(columns: Columns, names: Sequence[str]) -> bool:
  return any(name in columns for name in names)


def _all_lists(columns: Columns, names: Sequence[str]) -> bool:
  """Whether every one of these columns is there and begins with a list."""
  return all(name in columns and isinstance(columns[name][0], list) for name in names)


def _are_conversations_after_prompt(columns: Columns) -> bool:
  if not _all_lists(columns, PAIR) or not _any_of(columns, QUERY):
    return False
  first = next(iter(columns["chosen"][0]), None)
  return isinstance(first, Mapping) and first.get("role") == "assistant"


def _are_whole_dialogues(columns: Columns) -> bool:
  """Whether some side opens with a question and goes on with an answer."""
  sides = [value for name in PAIR for value in columns.get(name, ()) if isinstance(value, str)]
  return columns.keys() >= set(PAIR) and any(
    ANSWER in text and text.lstrip().startswith(("Human:", "System:")) for text in sides
  )


def _are_texts_with_shared_start(columns: Columns) -> bool:
  return columns.keys() >= set(PAIR) and not _any_of(columns, QUERY)


FORMATS: tuple[Format, ...] = (
  Format("UltraFeedback", "preferences", _has("completions"), _rated_completions),
  Format("APO text and scores", "preferences", _has("text", "scores"), _texts_with_separator),
  Format("K-wise responses and scores", "preferences", _has("responses"), _k_wise),
  Format(
    "TRL conversational preference (explicit prompt)",
    "preferences",
    _are_conversations_after_prompt,
    _sides_after_prompt,
  ),
  Format(
    "TRL conversational preference (implicit prompt)",
    "preferences",
    lambda columns: _all_lists(columns, PAIR),
    _whole_conversations,
  ),
  Format("HH-RLHF", "preferences", _are_whole_dialogues, _whole_dialogues),
  Format(
    "TRL preference (implicit prompt)",
    "preferences",
    _are_texts_with_shared_start,
    _texts_with_shared_start,
  ),
  Format("TRL preference (explicit prompt)", "preferences", _has(*PAIR), _sides_after_prompt),
  Format("APO golden", "demonstrations", _has("golden"), _golden),
  Format("APO samples", "queries", _has("query", "sample_0"), _query_alone),
  Format("TRL conversation", "demonstrations", _has("messages"), _conversation),
  Format(
    "AlpacaEval outputs", "demonstrations", _has("instruction", "output"), _query_and_response
  ),
  Format(
    "TRL unpaired preference",
    "demonstrations",
    _has("prompt", "completion", "label"),
    _labelled_completion,
  ),
  Format("query and response", "demonstrations", _has_query_and_response, _query_and_response),
  Format("query", "queries", _has_query, _query_alone),
)
