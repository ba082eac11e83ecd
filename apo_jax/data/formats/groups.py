"""Rows that are one candidate together: a response each, to the same query."""

from collections.abc import Iterable
from typing import NamedTuple

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.candidates import Candidate, scores_of


class Group(NamedTuple):
  """A candidate that several rows made, or why they made none, with the numbers of the rows."""

  numbers: tuple[int, ...]
  candidate: Candidate | BadRow


def join_answers(parts: Iterable[tuple[int, Candidate]]) -> list[Group]:
  """The judged responses of a file, those of one query as one candidate.

  Of responses that are equal, and equally judged, one stays; judged otherwise, they contradict.

  Args:
    parts: candidates of one response, each with the number of its row.
  """
  by_query: dict[str, list[tuple[int, Candidate]]] = {}
  for number, part in parts:
    by_query.setdefault(part.query or "", []).append((number, part))
  return [
    Group(tuple(number for number, _ in group), _joined([part for _, part in group]))
    for group in by_query.values()
  ]


def _joined(parts: list[Candidate]) -> Candidate | BadRow:
  first = parts[0]
  scores: dict[str, float] = {}
  for part in parts:
    (response,), (score,) = part.responses, part.scores
    if scores.setdefault(response, score) != score:
      problem = BadRow("contradiction", "one response to its query is judged in two ways")
      return first._replace(unfit=problem)
  if len(scores) == 1:
    # A label judges a response by itself: where responses are compared, it is merely alone.
    return first if "demonstrations" in first.joined_for else first._replace(unfit=None)
  try:
    values = scores_of(list(scores.values()), len(scores))
  except BadRow as error:
    return error
  unfit = None
  if len(set(values)) == 1:
    unfit = BadRow("all sides equal", "the responses to its query are judged alike")
  return first._replace(responses=tuple(scores), scores=values, unfit=unfit)
