"""Results as they lie in docs/results: one row a setting, seed and round, and where it is from."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import read_json, write_json, write_text

ROUNDS, PROVENANCE = "rounds.csv", "provenance.json"
FIELDS = ("reward.mode", "policy.loss")  # columns that every file has, beside seed and round
MOST_BYTES = 200_000


class Row(NamedTuple):
  """A run after a round.

  Attributes:
    setting: values of the config's fields that tell settings apart, by dotted name.
    seed: of the whole game.
    round: 0 is the start.
    numbers: by name; what is not known is not there.
  """

  setting: Mapping[str, str]
  seed: int
  round: int
  numbers: Mapping[str, float]


class Results(NamedTuple):
  """One part of the experiment.

  Attributes:
    rows: of all its runs and rounds.
    provenance: the commands, the commit, the date, versions and how many runs.
  """

  rows: Sequence[Row]
  provenance: Mapping[str, Any]

  @property
  def last_round(self) -> int:
    """The last that all runs have."""
    last: dict[tuple[Any, ...], int] = {}
    for row in self.rows:
      run = (*row.setting.values(), row.seed)
      last[run] = max(last.get(run, 0), row.round)
    return min(last.values())

  def by_seed(self, setting: Mapping[str, str], round: int, number: str) -> dict[int, float]:
    """A number of the settings that have these values, by seed.

    Raises:
      ValueError: two runs of one seed have them.
    """
    found: dict[int, float] = {}
    for row in self.rows:
      if row.round == round and setting.items() <= row.setting.items() and number in row.numbers:
        if row.seed in found:
          raise ValueError(f"Several runs of seed {row.seed} have {dict(setting)}.")
        found[row.seed] = row.numbers[number]
    return found


def write_results(folder: Path, rows: Sequence[Row], provenance: Mapping[str, Any]) -> None:
  """Writes a part's two files; numbers have six digits.

  Raises:
    ConfigError: the file would be too large to be committed.
  """
  fields = list(rows[0].setting)
  numbers = list(dict.fromkeys(name for row in rows for name in row.numbers))
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow((*fields, "seed", "round", *numbers))
  for row in rows:
    values = (_cell(row.numbers.get(name, math.nan)) for name in numbers)
    writer.writerow((*(row.setting[field] for field in fields), row.seed, row.round, *values))
  size = len(text.getvalue().encode())
  if size > MOST_BYTES:
    raise ConfigError(
      f"{folder / ROUNDS} would have {size:,} bytes, of which it may have {MOST_BYTES:,}; collect"
      " fewer runs into one folder."
    )
  write_text(folder / ROUNDS, text.getvalue())
  write_json(folder / PROVENANCE, provenance)


def read_results(folder: Path) -> Results:
  """Reads what `write_results` wrote.

  Raises:
    ConfigError: there is no such file, or it is no such file.
  """
  try:
    lines = list(csv.reader(io.StringIO((folder / ROUNDS).read_text(encoding="utf-8"))))
    provenance = read_json(folder / PROVENANCE)
    return Results([*_rows(lines[0], lines[1:])], provenance)
  except (OSError, ValueError, IndexError) as error:
    raise ConfigError(
      f"{folder} holds no results: {error}; it must have a {ROUNDS} and a {PROVENANCE}, as"
      " `python -m benchmarks.does_apo_help.collect` writes them."
    ) from error


def _rows(header: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterable[Row]:
  first = header.index("seed")  # behind the fields of settings
  for line in lines:
    named = dict(zip(header, line, strict=True))
    yield Row(
      setting={field: named[field] for field in header[:first]},
      seed=int(named["seed"]),
      round=int(named["round"]),
      numbers={name: float(named[name]) for name in header[first + 2 :] if named[name]},
    )


def _cell(value: float) -> str:
  return f"{value:.6g}" if math.isfinite(value) else ""
