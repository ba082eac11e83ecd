"""What is evaluated on: a run's own test side, or preferences and queries of any location."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

from apo_jax.config.fields import ConfigError
from apo_jax.data.reading import read_records
from apo_jax.data.records import Demonstration, GameData, Preference, Query
from apo_jax.data.sources import fingerprint, load_data
from apo_jax.data.tokenised import tokenise_records
from apo_jax.evaluate.models import OpenedRun
from apo_jax.evaluate.reading import Answer, Item
from apo_jax.logs.files import read_json

Record = TypeVar("Record")

# As much is used of a location as of a run's test side, where nothing else is said.
USUAL_NUMBER = 1024


@dataclasses.dataclass(frozen=True)
class Preferences:
  """Preference data.

  Attributes:
    name: where they are from.
    records: two or more responses each, with their scores.
    left_out: rows of the location that could not be used, by reason.
  """

  name: str
  records: tuple[Preference, ...]
  left_out: dict[str, int]

  @property
  def items(self) -> list[Item]:
    """The queries with their responses."""
    return [
      Item(one.query_id, one.query, tuple(Answer(text) for text in one.responses))
      for one in self.records
    ]


@dataclasses.dataclass(frozen=True)
class Queries:
  """Queries for policies.

  Attributes:
    name: where they are from.
    records: the queries, with a golden response where the location has one.
    left_out: rows of the location that could not be used, by reason.
    utility: the true utility of a response, where it is known.
  """

  name: str
  records: tuple[Query | Demonstration, ...]
  left_out: dict[str, int]
  utility: Callable[[str, str], float] | None = None


def own_test_side(run: OpenedRun, number: int | None) -> tuple[Preferences, Queries]:
  """A run's test preferences and test queries: those its rounds were judged on.

  Raises:
    ConfigError: the run's data is no longer there, or has changed.
  """
  data = load_data(run.config)
  _check_same(run, data)
  most = number or run.config.evaluation.num_queries
  name, codec = f"the test side of {run.name}", run.codec

  def fitting(records: Sequence[Record]) -> tuple[Record, ...]:
    # The very records that a round takes: those that fit its rows, then the first of them.
    return tuple(one.record for one in tokenise_records(codec, records, codec.judged_length)[:most])

  return (
    Preferences(name, fitting(data.test.preferences), {}),
    Queries(name, fitting(data.test.golden), {}, data.utility),
  )


def read_preferences(location: str, number: int | None) -> Preferences:
  """The first preferences of a location (data/locations.py); raises ConfigError without one."""
  reading = read_records("--preferences", location, "preferences", "skip")
  return Preferences(location, reading.records[: number or USUAL_NUMBER], reading.dropped)


def read_queries(location: str, number: int | None, *, with_golden: bool) -> Queries:
  """The first queries of a location, with their golden responses where these are wanted.

  Raises:
    ConfigError: there are none, or no golden responses where they are wanted.
  """
  kind = "demonstrations" if with_golden else "queries"
  reading = read_records("--queries", location, kind, "skip")
  return Queries(location, reading.records[: number or USUAL_NUMBER], reading.dropped)


def read_answers(location: str, queries: Sequence[Query | Demonstration]) -> list[Answer | None]:
  """A response from a file to each query, found by the query's text, else by its id.

  Raises:
    ConfigError: the file cannot be read, or answers none of the queries.
  """
  by_id = {record.query_id: record.query for record in queries}
  records = read_records("--against", location, "demonstrations", "skip", by_id).records
  by_query = {record.query: record.response for record in reversed(records)}
  ids = {record.query_id: record.response for record in reversed(records)}
  found = [by_query.get(one.query, ids.get(one.query_id)) for one in queries]
  if not any(found):
    raise ConfigError(
      f"--against is {location!r}, which has no response to any of the {len(found)} queries; its "
      "rows must have their texts, or their query_id."
    )
  return [None if text is None else Answer(text) for text in found]


def _check_same(run: OpenedRun, data: GameData) -> None:
  path = run.directory.data
  if path.exists() and read_json(path)["sha256"] != fingerprint(data):
    raise ConfigError(
      f"{run.flag} is {str(run.directory)!r}, whose data has changed since it was played; give "
      "--preferences and --queries, or the old data."
    )
