"""Data sets in files, small and right, for tests to write with changes and load."""

import dataclasses
import json

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data.sources import load_data, side_of
from tests import tiny

QUERIES = [f"\n\nHuman: What is {number}?\n\nAssistant:" for number in range(60)]
SIDES = ("reward", "policy", "test")
# No limit on what is taken from files.
ALL = {
  f"data__num_{name}": 0 for name in ("demonstrations", "preferences", "golden", "queries", "test")
}


def rows_of_files():
  """The rows of every file; the same queries are in all of them."""
  identified = [{"query_id": f"q{number}", "query": query} for number, query in enumerate(QUERIES)]
  golden = [{**row, "response": f" Golden {i}."} for i, row in enumerate(identified)]
  preferences = [
    {**row, "responses": [f" Good {i}.", " Bad.", " So so."], "scores": [2, 0, 0.5]}
    for i, row in enumerate(identified)
  ]
  demonstrations = [{**row, "response": f" Shown {i}."} for i, row in enumerate(identified[:5])]
  return {
    "demonstrations": demonstrations,
    "preferences": preferences,
    "golden": golden,
    "queries": identified,
  }


def write(tmp_path, rows, name="{}.jsonl"):
  """Writes the rows; returns the config that reads them, and the files' paths."""
  paths = {}
  for field, lines in rows.items():
    paths[field] = tmp_path / name.format(field)
    # A row that is a string already is a line as it stands.
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    paths[field].write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
  fields = {f"data__{field}": str(path) for field, path in paths.items()}
  return tiny.config(data__source="files", **ALL, **fields), paths


def failure(config):
  with pytest.raises(ConfigError) as error:
    load_data(config)
  return str(error.value)


def load(tmp_path, rows):
  return load_data(write(tmp_path, rows)[0])


def number_of(*sides):
  """The first query of these sides."""
  return next(number for number, query in enumerate(QUERIES) if side_of(query) in sides)


def reports_by_field(data):
  return {report.field: report for report in data.reports}


def with_data(config, **changes):
  return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))
