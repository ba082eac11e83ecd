"""A run's data: the embedded small world, or data sets by path or URI, split into three sides.

    location --locations--> rows --formats--> candidates --reading--> records --here--> sides

Every query belongs to one side, the reward model's, the policy's or the test's, by a hash of its
text. A side keeps what the game reads of it (`_READ`). The config's limits keep the queries that
another hash of their text puts first, so that a choice depends neither on the seed nor on the order
of a file.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config, DataConfig
from apo_jax.data.candidates import Kind
from apo_jax.data.reading import Reading, read_records, to_records
from apo_jax.data.records import (
  Demonstration,
  GameData,
  Preference,
  Query,
  Split,
  subsets_of,
)
from apo_jax.data.reports import SourceReport
from apo_jax.data.toy import dialogues, world
from apo_jax.logs.files import json_line

Record = TypeVar("Record", Query, Demonstration, Preference)

# Of 20 queries, by hash of their text: 9 for each player and 2 to test on.
_SIDE_OF_20 = ("reward",) * 9 + ("policy",) * 9 + ("test",) * 2
SIDES = ("reward", "policy", "test")

# The sides that a game reads each field of.
_READ = {
  "preferences": ("reward", "policy", "test"),
  "golden": ("reward", "test"),
  "queries": ("policy",),
  "demonstrations": ("reward", "policy"),
}
# Of preferences: each is a term of the reward model's loss (objectives/min_norm.py).
MOST_SUBSETS = 9
# What no game can do without.
_NEEDED = (
  ("reward", "preferences"),
  ("reward", "golden"),
  ("policy", "queries"),
  ("test", "preferences"),
  ("test", "golden"),
)
# What the judge needs beside, by `testing_reward.preferences`.
_NEEDED_BY_JUDGE = {"all": (), "policy": (("policy", "preferences"),)}


def load_data(config: Config) -> GameData:
  """The data of a run.

  Raises:
    ConfigError: a source cannot be read, is in no form that holds what its field needs, has a bad
      row under on_bad_row="error", leaves nothing for a side of the split, or has one subset or too
      many; the message names the field, the location and the row.
  """
  game = _embedded(config) if config.data.source == "embedded" else _files(config)
  return _check_subsets(config.data.subset_column, game)


def _files(config: Config) -> GameData:
  data = config.data
  readings = _read_sources(data)
  for side, field in (*_NEEDED, *_NEEDED_BY_JUDGE[config.testing_reward.preferences]):
    if not any(side_of(record.query) == side for record in readings[field].records):
      raise ConfigError(
        f"config.data.{field} is {getattr(data, field)!r}, of which no record falls to the {side} "
        "side of the split (queries are split by a hash of their text); give more records."
      )
  splits = {
    side: Split(
      *(
        _first_by_hash(_of_side(readings[field].records, field, side), _limit(field, side, data))
        for field in ("preferences", "golden", "queries")
      )
    )
    for side in SIDES
  }
  demonstrations: tuple[Demonstration, ...] = ()
  if "demonstrations" in readings:
    demonstrations = _learned(readings["demonstrations"].records, data)
  game = GameData(demonstrations, splits["reward"], splits["policy"], splits["test"])
  reports = tuple(_report(field, reading, game, data) for field, reading in readings.items())
  return dataclasses.replace(game, reports=reports)


def fingerprint(data: GameData) -> str:
  """A hash of every record, for the provenance of a round."""
  lists: list[Sequence[Any]] = [data.demonstrations]
  for split in (data.reward, data.policy, data.test):
    lists += [split.preferences, split.golden, split.queries]
  digest = hashlib.sha256()
  for records in lists:
    # With its length first, no record can move to the next list unnoticed.
    digest.update(f"{len(records)}\n".encode())
    for record in records:
      # A field that says nothing is left out, as it was before it was there.
      said = {name: value for name, value in vars(record).items() if name != "subset" or value}
      digest.update(json_line(said).encode())
  return digest.hexdigest()


def side_of(query: str) -> str:
  """The side of the split that a query belongs to: "reward", "policy" or "test"."""
  digest = hashlib.sha256(query.encode()).digest()
  return _SIDE_OF_20[int.from_bytes(digest[:8], "big") % len(_SIDE_OF_20)]


def _embedded(config: Config) -> GameData:
  data = config.data
  try:
    game = dialogues.generate(
      config.seed,
      num_demonstrations=data.num_demonstrations,
      num_preferences=data.num_preferences,
      num_golden=data.num_golden,
      num_queries=data.num_queries,
      num_test=data.num_test,
      covers_failures=data.embedded.covers_failures,
      label_sharpness=data.embedded.label_sharpness,
    )
  except ValueError as error:
    raise ConfigError(f"config.data: {error}") from error
  if data.subset_column:
    game = _by_family(game)
  return _with_chosen(game, data.num_golden) if data.golden == "chosen" else game


def _by_family(game: GameData) -> GameData:
  """The game whose preferences of the reward side are told apart by the family of their query."""
  told_apart = tuple(
    dataclasses.replace(one, subset=world.parse(one.query).family.name)
    for one in game.reward.preferences
  )
  return dataclasses.replace(game, reward=dataclasses.replace(game.reward, preferences=told_apart))


def _check_subsets(column: str, game: GameData) -> GameData:
  names = subsets_of(game.reward.preferences)
  if len(names) == 1 or len(names) > MOST_SUBSETS:
    more = ", …" if len(names) > MOST_SUBSETS else ""
    listed = ", ".join(map(repr, names[:MOST_SUBSETS])) + more
    raise ConfigError(
      f"config.data.subset_column is {column!r}, by which the reward side's preferences fall into"
      f" {len(names)} {'subset' if len(names) == 1 else 'subsets'} ({listed}); it must have 2 to"
      f" {MOST_SUBSETS} different values."
    )
  return game


def _with_chosen(game: GameData, number: int) -> GameData:
  """The game with preferred responses as golden ones; those that policies are judged by stay."""
  chosen = [
    Demonstration(one.query_id, one.query, one.responses[one.scores.index(max(one.scores))])
    for one in game.reward.preferences
  ]
  golden = _first_by_hash(chosen, number)
  return dataclasses.replace(game, reward=dataclasses.replace(game.reward, golden=golden))


def _read_sources(data: DataConfig) -> dict[str, Reading]:
  """The records of every field that is given, of all sides."""

  def read(field: str, kind: Kind, by_id: Mapping[str, str] | None = None) -> Reading:
    return read_records(
      f"config.data.{field}",
      getattr(data, field),
      kind,
      data.on_bad_row,
      by_id,
      data.subset_column if field == "preferences" else "",
    )

  def of_preferences(field: str, kind: Kind) -> Reading:
    # A preference is a row in one of the formats itself.
    subject = f"config.data.{field} is {getattr(data, field)!r}"
    rows = map(vars, preferences.records)
    derived = to_records(rows, subject, kind, data.on_bad_row, {}, preferences.numbers)
    return derived._replace(
      format=preferences.format,
      formats=preferences.formats,
      read=preferences.read,
      unread=preferences.unread,
    )

  preferences = read("preferences", "preferences")
  if data.queries == "preferences":
    queries = of_preferences("queries", "queries")
  else:
    queries = read("queries", "queries")
  if data.golden == "chosen":
    golden = of_preferences("golden", "demonstrations")
  else:
    by_id = {record.query_id: record.query for record in queries.records}
    golden = read("golden", "demonstrations", by_id)
  readings = {"preferences": preferences, "golden": golden, "queries": queries}
  if data.demonstrations:
    readings["demonstrations"] = read("demonstrations", "demonstrations")
  return readings


def _learned(records: Iterable[Demonstration], data: DataConfig) -> tuple[Demonstration, ...]:
  """The demonstrations to start from: the policy must not learn test queries there either."""
  learned = [r for r in records if side_of(r.query) in _READ["demonstrations"]]
  if not learned:
    raise ConfigError(
      f"config.data.demonstrations is {data.demonstrations!r}, all of whose queries belong to the"
      " test side of the split (by a hash of their text); give more records."
    )
  return _first_by_hash(learned, data.num_demonstrations)


def _limit(field: str, side: str, data: DataConfig) -> int:
  """The most records of a side; 0 is no limit."""
  return data.num_test if side == "test" else getattr(data, f"num_{field}")


def _of_side(records: Iterable[Record], field: str, side: str) -> list[Record]:
  """A field's records of a side that reads them."""
  return [r for r in records if side in _READ[field] and side_of(r.query) == side]


def _first_by_hash(records: Sequence[Record], limit: int) -> tuple[Record, ...]:
  """At most `limit` records, in their order: those whose queries a hash puts first."""
  if not limit or len(records) <= limit:
    return tuple(records)
  # Other bytes than those that decide the side.
  ranks = [hashlib.sha256(record.query.encode()).digest()[8:] for record in records]
  first = sorted(range(len(records)), key=ranks.__getitem__)[:limit]
  return tuple(records[index] for index in sorted(first))


def _report(field: str, reading: Reading, game: GameData, data: DataConfig) -> SourceReport:
  if field == "demonstrations":
    used = collections.Counter(side_of(record.query) for record in game.demonstrations)
  else:
    used = {side: len(getattr(getattr(game, side), field)) for side in SIDES}
  sides = {side: used[side] for side in _READ[field]}
  found = collections.Counter(side_of(record.query) for record in reading.records)
  left_out = {
    "of sides that need none": sum(found[side] for side in SIDES if side not in sides),
    "over the limits": sum(found[side] - number for side, number in sides.items()),
  }
  derived = getattr(data, field) in ("chosen", "preferences")
  return SourceReport(
    field=field,
    location="config.data.preferences" if derived else getattr(data, field),
    format=reading.format,
    rows=reading.rows,
    records=len(reading.records),
    dropped=reading.dropped,
    examples=reading.examples,
    sides=sides,
    left_out={why: number for why, number in left_out.items() if number},
    formats=reading.formats,
    read=reading.read,
    unread=reading.unread,
    joined=reading.joined,
  )
