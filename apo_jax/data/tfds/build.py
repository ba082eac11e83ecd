"""Writes data sets of any accepted form as one TFDS data set of ArrayRecord files, for pods.

    python -m apo_jax.data.tfds.build --source=preferences.jsonl.gz --output=DIR

`--golden`, `--queries` and `--demonstrations` add splits beside that of the preferences. Rows that
cannot be used are left out and counted. It prints the URIs that config.data takes. ArrayRecord
files are written and read on file systems alone: on a pod every host needs the directory mounted.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from absl import app, flags, logging

from apo_jax.config.command_line import parse_flags, refuse, say
from apo_jax.config.fields import ConfigError
from apo_jax.config.folders import check_folder
from apo_jax.data.candidates import Kind
from apo_jax.data.reading import Reading, read_records
from apo_jax.data.reports import listing
from apo_jax.logs.endings import ended

_FLAGS = {
  "preferences": flags.DEFINE_string("source", None, "The preferences: a path or URI."),
  "queries": flags.DEFINE_string("queries", None, "Queries to answer: a path or URI."),
  "golden": flags.DEFINE_string("golden", None, "Golden responses: a path or URI."),
  "demonstrations": flags.DEFINE_string("demonstrations", None, "Demonstrations: a path or URI."),
}
_OUTPUT = flags.DEFINE_string("output", None, "The directory for the data set: TFDS's data_dir.")
_NAME = flags.DEFINE_string("name", "apo_records", "What the data set is called.")

_KINDS: dict[str, Kind] = {
  "preferences": "preferences",
  "queries": "queries",
  "golden": "demonstrations",
  "demonstrations": "demonstrations",
}


def build(sources: Mapping[str, str], output: str, name: str) -> list[str]:
  """Writes the data set; returns one line for each split: its URI and what became of the rows.

  Args:
    sources: a path or URI for each split, of which one is "preferences".
    output: the directory that `data_dir` of the URIs names.
    name: the data set's name.

  Raises:
    ConfigError: a source cannot be read or holds nothing for its split, the name is none for TFDS,
      the directory is a URI, or there is a data set of this name in it.
  """
  if not re.fullmatch("[a-z][a-z0-9_]*", name):
    raise ConfigError(f"--name is {name!r}; it must be of small letters, digits and underscores.")
  if "://" in output:
    raise ConfigError(
      f"--output is {output!r}; it must be a directory of a file system, such as a mounted bucket,"
      " because ArrayRecord files are written and read nowhere else."
    )
  check_folder("--output", Path(output) / name)
  if (Path(output) / name).exists():
    raise ConfigError(f"--output is {output!r}, where {name} is already; give another --name.")
  readings: dict[str, Reading] = {}
  for split, location in sources.items():
    flag = f"--{_FLAGS[split].name}"
    # Golden responses may leave their queries to the file of the queries, which is read before.
    queries = readings["queries"].records if "queries" in readings else ()
    by_id = {record.query_id: record.query for record in queries}
    readings[split] = read_records(flag, location, _KINDS[split], "skip", by_id)
  # TFDS takes seconds to import, which a wrong flag need not wait for.
  from apo_jax.data.tfds.builder import write_records

  write_records(Path(output), name, {split: reading.records for split, reading in readings.items()})
  return [
    f"tfds://{name}?split={split}&data_dir={output}: {_summary(reading)}"
    for split, reading in readings.items()
  ]


def main(arguments: list[str]) -> int:
  """Builds what the flags describe; returns the exit code."""
  if len(arguments) > 1:
    return refuse(f"{arguments[1]!r} is not a flag; did you mean --source={arguments[1]}?")
  for flag in (_FLAGS["preferences"], _OUTPUT):
    if not flag.value:
      return refuse(f"--{flag.name} is missing; it must be given.")
  logging.set_verbosity(logging.WARNING)
  sources = {split: flag.value for split, flag in _FLAGS.items() if flag.value}

  def work() -> int:
    say("\n".join(build(sources, _OUTPUT.value, _NAME.value)))
    return 0

  return ended(work, Path(_OUTPUT.value))


def _summary(reading: Reading) -> str:
  summary = f"{len(reading.records):,} of {reading.rows:,} rows in {reading.format} form"
  for reason, number in reading.dropped.items():
    summary += f", {number:,} dropped: {reason}"
  if reading.unread:
    summary += f"; not read: {listing(reading.unread)}"
  return summary


if __name__ == "__main__":
  app.run(main, flags_parser=parse_flags)
