"""A chosen and a rejected response, held against every score that the row has of them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.candidates import Candidate, scores_of
from apo_jax.data.columns import RowView
from apo_jax.data.values import number_of, query_id_of

_WORDS_OF_SCORES = ("score", "rating", "reward", "avg_rating", "overall_score", "rm_score")
# How scores of the sides are called: `score_chosen` and `chosen_score`.
_SCORES = tuple(
  tuple(pattern.format(word=word, side=side) for side in ("chosen", "rejected"))
  for word in _WORDS_OF_SCORES
  for pattern in ("{word}_{side}", "{side}_{word}")
)
# Lists that some sets keep of all answers that the two were taken from, and of their scores.
_ALL = (
  ("generations", "rating"),
  ("responses", "scores"),
  ("responses", "rewards"),
  ("all_generated_responses", "all_rm_scores"),
)
# One of the two alone decides nothing; of all answers, what is beside the pair was its source.
UNNEEDED = frozenset({*itertools.chain(*_SCORES), *(scores for _, scores in _ALL)})


def pair_of(row: RowView, query: str, responses: Sequence[str]) -> Candidate:
  """The preference of a chosen over a rejected response, with their scores if the row has some.

  Raises:
    BadRow: a score of the row says that the chosen one is not the better.
  """
  if str(row.peek("status")).strip().lower() == "tie":
    # So argilla's copies of Intel's pairs say that a second judge saw no better one.
    row.get("status")
    raise BadRow("all sides equal", "its status is 'tie'")
  names, given = ("", ""), (1.0, 0.0)
  for found, values in _scores_beside(row):
    numbers = [number_of(value) for value in values]
    if None not in numbers and numbers[0] < numbers[1]:
      problem = f"{found[0]} is {values[0]}, below {found[1]}, which is {values[1]}"
      raise BadRow("wrong scores", problem)
    if not names[0]:
      names, given = found, values
  for texts_name, scores_name in _ALL:
    _check_list(row, texts_name, scores_name, responses)
  return Candidate(query_id_of(row), query, tuple(responses), scores_of(given, 2))


def _scores_beside(row: RowView) -> list[tuple[tuple[str, str], tuple[Any, Any]]]:
  """The scores of both sides, under every name that the row has them by."""
  said = set(row.said)
  return [(names, (row[names[0]], row[names[1]])) for names in _SCORES if said >= set(names)]


def _check_list(row: RowView, name: str, scores_name: str, responses: Sequence[str]) -> None:
  """Raises BadRow where scores of all answers say that the chosen one is not the better."""
  texts, scores = row.peek(name), row.peek(scores_name)
  if not isinstance(texts, list | tuple) or not isinstance(scores, list | tuple):
    return
  if len(texts) != len(scores):
    return
  row.get(name), row.get(scores_name)
  # The answers are told by their words.
  known = {
    words(text): number_of(score)
    for text, score in zip(map(_last_text, texts), scores, strict=True)
  }
  better, worse = (known.get(words(response)) for response in responses)
  if better is not None and worse is not None and better <= worse:
    reason = "all sides equal" if better == worse else "contradiction"
    raise BadRow(reason, f"{scores_name} gives the chosen response {better}, the other {worse}")


def _last_text(value: Any) -> str:
  if isinstance(value, list | tuple) and value:
    value = value[-1]
  return str(value.get("content")) if isinstance(value, Mapping) else str(value)


def words(text: str) -> str:
  """The words of a text, by which texts are compared."""
  return " ".join(text.split())
