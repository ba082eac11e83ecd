"""Several responses to one query with a score or a rank each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from apo_jax.data.answers import asked_of, query_of, response_of
from apo_jax.data.bad_rows import BadRow
from apo_jax.data.candidates import Candidate, scores_of
from apo_jax.data.columns import RANKS, SCORES, RowView
from apo_jax.data.messages import written_list
from apo_jax.data.values import field, number_of, present, query_id_of, shown, text_of

SEPARATOR = "<sep>"

LISTS = ("responses", "completions", "answers", "generations", "candidates", "outputs")
# Of a whole list: the higher is better, and the lower.
SCORE_LISTS = ("scores", "rewards", "ratings", "score", "rating", "reward")
RANK_LISTS = ("ranks", "rank", "ranking", "rankings")
OBJECTS = LISTS
_TEXT_KEYS = ("response", "answer", "text", "content", "completion", "output")


def texts_and_scores(row: RowView) -> Candidate:
  """A query, its responses, and one score or rank for each."""
  name = present(row, LISTS) if any(row.peek(one) is not None for one in LISTS) else LISTS[0]
  responses = as_list(field(row, name), name)
  if not all(isinstance(one, str | list | Mapping) for one in responses):
    raise BadRow("wrong field", f"{name} is {shown(responses)}; it must be a list of texts")
  scores = _scores_of_list(row, len(responses))
  query, behind = asked_of(row)
  texts = tuple(response_of(one, name, behind=behind) for one in responses)
  return Candidate(query_id_of(row), query, texts, scores)


def rated_objects(row: RowView) -> Candidate:
  """A query and its responses as objects that hold text and score (UltraFeedback, Nectar, …)."""
  name = next(name for name in OBJECTS if _are_objects(row.peek(name)))
  objects = as_list(field(row, name), name)
  if not all(isinstance(one, Mapping) for one in objects):
    raise BadRow("wrong field", f"{name} is {shown(objects)}; it must be a list of objects")
  query, behind = asked_of(row)
  texts = []
  for one in objects:
    key = present(one, _TEXT_KEYS)
    texts.append(response_of(one[key], key, behind=behind))
  return Candidate(query_id_of(row), query, tuple(texts), _ratings(objects, name))


def has_responses(columns: Mapping[str, Any]) -> bool:
  """Whether there is a list of responses, or of scores without one."""
  judged = any(name in columns for name in (*SCORE_LISTS, *RANK_LISTS))
  listed = any(not isinstance(columns.get(name, ""), str) for name in LISTS)
  return (listed and judged) or "responses" in columns or "scores" in columns


def has_completions(columns: Mapping[str, Any]) -> bool:
  """Whether there are UltraFeedback's completions."""
  return _are_objects(columns.get("completions"))


def has_objects(columns: Mapping[str, Any]) -> bool:
  """Whether one of the columns is a list of objects that are answers."""
  return any(_are_objects(columns.get(name)) for name in OBJECTS)


def texts_with_separator(row: RowView) -> Candidate:
  """The paper's own files: every text is a query, "<sep>" and a response."""
  texts = field(row, "text")
  if not isinstance(texts, list | tuple):
    raise BadRow("wrong field", f"text is {shown(texts)}; it must be a list of texts")
  sides = [text_of(text, "text").partition(SEPARATOR) for text in texts]
  if not all(separator for _, separator, _ in sides):
    raise BadRow("missing field", f"it has a text without {SEPARATOR!r} between query and response")
  queries = {query_of(query, "text") for query, _, _ in sides}
  if len(queries) != 1:
    raise BadRow("sides of different queries", f"it has {len(queries)} queries in its texts")
  responses = tuple(
    response_of(response, "text", behind="open dialogue") for _, _, response in sides
  )
  scores = scores_of(field(row, "scores"), len(texts))
  unfit = None
  if row.get("type") == "apo":
    # The reference repository writes such rows in the form of its human preferences.
    unfit = BadRow("no human preference", "it has the type 'apo': a golden response and samples")
  return Candidate(query_id_of(row), queries.pop(), responses, scores, unfit)


def as_list(value: Any, name: str) -> Sequence[Any]:
  """A value that must be a list, also one that a table wrote as text."""
  if isinstance(value, str):
    value = written_list(value) or value
  if not isinstance(value, list | tuple):
    raise BadRow("wrong field", f"{name} is {shown(value)}; it must be a list of texts")
  return value


def _scores_of_list(row: RowView, count: int) -> tuple[float, ...]:
  found = [name for name in (*SCORE_LISTS, *RANK_LISTS) if row.peek(name) is not None]
  if not found:
    raise BadRow("missing field", "it has no field 'scores' (or 'rewards', 'ratings', 'ranks')")
  orders = []
  for name in found:
    value = row[name]
    value = (written_list(value) or value) if isinstance(value, str) else value
    if name in RANK_LISTS and isinstance(value, list | tuple):
      # The first is the best.
      value = [rank if number_of(rank) is None else -number_of(rank) for rank in value]
    orders.append(scores_of(value, count))
  if any(_disagree(orders[0], other) for other in orders[1:]):
    raise BadRow("contradiction", f"its {' and '.join(found)} order the responses differently")
  return orders[0]


def _disagree(one: Sequence[float], other: Sequence[float]) -> bool:
  pairs = [(i, j) for i in range(len(one)) for j in range(i)]
  return any((one[i] - one[j]) * (other[i] - other[j]) < 0 for i, j in pairs)


def _are_objects(value: Any) -> bool:
  """Whether it is a list of objects that are no messages."""
  if isinstance(value, str):
    value = written_list(value)
  first = next(iter(value), None) if isinstance(value, list | tuple) else None
  return isinstance(first, Mapping) and "role" not in first and "from" not in first


def _ratings(objects: Sequence[Mapping[str, Any]], name: str) -> tuple[float, ...]:
  # All responses of a row are judged on one scale. The mean of the aspects comes first: of
  # UltraFeedback's overall_score it is known that some 10 was meant as 1.
  ratings: list[Callable[[Mapping[str, Any]], float | None]] = [
    _mean_rating,
    _number("fine-grained_score"),
    *map(_number, SCORES),
    *map(_minus, RANKS),
  ]
  for rating in ratings:
    scores = [rating(one) for one in objects]
    if None not in scores:
      return scores_of(scores, len(objects))
  raise BadRow(
    "wrong scores",
    f"its {name} have no annotations, fine-grained_score, overall_score, score or rank each",
  )


def _mean_rating(completion: Mapping[str, Any]) -> float | None:
  """The mean over the aspects that were rated; "N/A" is not."""
  annotations = completion.get("annotations")
  aspects = annotations.values() if isinstance(annotations, Mapping) else ()
  ratings = [number_of(aspect.get("Rating")) for aspect in aspects if isinstance(aspect, Mapping)]
  given = [rating for rating in ratings if rating is not None]
  return sum(given) / len(given) if given else None


def _number(name: str) -> Callable[[Mapping[str, Any]], float | None]:
  return lambda one: number_of(one.get(name))


def _minus(name: str) -> Callable[[Mapping[str, Any]], float | None]:
  def score(one: Mapping[str, Any]) -> float | None:
    rank = number_of(one.get(name))
    return None if rank is None else -rank

  return score
