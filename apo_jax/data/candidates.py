"""What one row of any format says, and the record it becomes where it is good enough.

    row  --format-->  Candidate  --kind-->  Preference, Demonstration or Query

A format's parser only finds the parts; what a record must fulfil is checked here, once.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.dialogue import find_marker
from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.data.values import number_of, shown

Kind = Literal["preferences", "demonstrations", "queries"]
Record = Preference | Demonstration | Query
Row = Mapping[str, Any]


class Candidate(NamedTuple):
  """The parts of a row, its texts in the canonical form (data/dialogue.py).

  Attributes:
    query_id: the row's own, or None.
    query: None where another file holds the query of this id.
    responses: any number, some maybe blank.
    scores: one for each response, finite and at least 0.
    unfit: why the row is good for its query alone, if it is.
    joined_for: the kinds for which the rows of one query are one candidate.
    subset: of a preference, the part that it belongs to; "" where none are told apart.
  """

  query_id: str | None
  query: str | None
  responses: tuple[str, ...] = ()
  scores: tuple[float, ...] = ()
  unfit: BadRow | None = None
  joined_for: frozenset[Kind] = frozenset()
  subset: str = ""


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
  if kind == "demonstrations":
    return _demonstration(query_id, query, candidate.responses, candidate.scores)
  preference = _preference(query_id, query, candidate.responses, candidate.scores)
  return dataclasses.replace(preference, subset=candidate.subset)


def _preference(
  query_id: str, query: str, responses: tuple[str, ...], scores: tuple[float, ...]
) -> Preference:
  if len(responses) < 2:
    raise BadRow(
      "nothing to compare", f"it has {len(responses)} responses; a preference needs 2 or more"
    )
  blank = sum(not text.strip() for text in responses)
  if blank:
    raise BadRow(
      "empty response", f"it has {len(responses)} responses, of which {blank} say nothing"
    )
  if len({text.strip() for text in responses}) == 1:
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


def scores_of(values: Any, count: int) -> tuple[float, ...]:
  """One score for each of `count` responses, at least 0: only their order is read.

  The losses take a score below 0 for padding, so that a row which has one is shifted up.

  Raises:
    BadRow: there are not so many, one is no finite number, or they are too far apart to shift.
  """
  if not isinstance(values, list | tuple) or len(values) != count:
    raise BadRow("wrong scores", "responses and scores must be lists of one length")
  # True is not a fine 1.
  scores = [score for score in map(number_of, values) if score is not None]
  if len(scores) < count:
    raise BadRow("wrong scores", f"scores is {shown(list(values))}; each must be a finite number")
  lowest = min([0.0, *scores])
  shifted = tuple(score - lowest for score in scores)
  if len(set(shifted)) < len(set(scores)) or math.inf in shifted:
    raise BadRow(
      "wrong scores", f"scores is {shown(scores)}, too far apart to be shifted to 0 and above"
    )
  return shifted
