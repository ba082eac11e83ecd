"""The typed records of text that every data source yields and every later step reads."""

import dataclasses
from collections.abc import Callable, Iterable

from apo_jax.data.reports import SourceReport


@dataclasses.dataclass(frozen=True)
class Query:
  """A query the policy is to answer, in the form of data/dialogue.py."""

  query_id: str
  query: str


@dataclasses.dataclass(frozen=True)
class Demonstration:
  """A query with one response: a golden response or a supervised demonstration."""

  query_id: str
  query: str
  response: str


@dataclasses.dataclass(frozen=True)
class Preference:
  """A query with K >= 2 responses and one score each; the higher score is preferred.

  `subset` is the part of the preferences that it belongs to (`data.subset_column`), or "".
  """

  query_id: str
  query: str
  responses: tuple[str, ...]
  scores: tuple[float, ...]
  subset: str = ""


def subsets_of(preferences: Iterable[Preference]) -> tuple[str, ...]:
  """The names of the subsets that preferences belong to, in order; none if none are told apart."""
  return tuple(sorted({one.subset for one in preferences if one.subset}))


@dataclasses.dataclass(frozen=True)
class Split:
  """One player's data: human preferences, golden responses and queries without responses.

  Of data from files, the lists that the game does not read are empty.
  """

  preferences: tuple[Preference, ...]
  golden: tuple[Demonstration, ...]
  queries: tuple[Query, ...]


@dataclasses.dataclass(frozen=True)
class GameData:
  """All data of a game. No query is in two of `reward`, `policy` and `test`.

  `utility(query, response)` is the true utility in [0, 1] where it is known, else None. `reports`
  says what became of each source's rows.
  """

  demonstrations: tuple[Demonstration, ...]
  reward: Split
  policy: Split
  test: Split
  utility: Callable[[str, str], float] | None = None
  reports: tuple[SourceReport, ...] = ()
