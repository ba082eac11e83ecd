"""What finished phases wrote, held against hashes that were taken when they had written it.

`rounds/NN/checksums.json` has a SHA-256 of each file that a finished phase left: its result, and
what later phases read beside it; and one of its lines of metrics.jsonl. Players' checkpoints have
checksums of their own (training/checksums.py), as reading them takes long.
"""

import collections
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from apo_jax.logs.files import file_sha256, json_line, read_json, write_json
from apo_jax.logs.metric_lines import good_lines, record_of
from apo_jax.logs.places import Place
from apo_jax.logs.run_directory import CHECKSUMS, PROVENANCE, RunDirectory
from apo_jax.run.adoption import BESIDE
from apo_jax.run.phase_inputs import PhaseName

# What a damaged file of hashes raises.
_UNREADABLE = (OSError, TypeError, ValueError)


class Damage(NamedTuple):
  """A finished phase whose files are not what it wrote.

  Attributes:
    phase: the phase.
    problem: what is wrong, as the rest of a sentence behind the file.
    path: of the file.
  """

  phase: PhaseName
  path: Place
  problem: str

  @property
  def sentence(self) -> str:
    """What is to be known of it."""
    return f"{self.path}, which {self.phase.words} wrote, {self.problem}."


# A line of metrics.jsonl.
Lines = Sequence[Mapping[str, Any]]


def record_phase(directory: RunDirectory, name: PhaseName, lines: Lines | None = None) -> None:
  """Takes the hashes of what a phase has left.

  Args:
    directory: the run's, or one that holds the phase alone.
    name: the phase.
    lines: of its round in metrics.jsonl; read from there where they are not given.
  """
  place = directory.round(name.round)
  known = _known_if_readable(place)
  known |= {path.name: file_sha256(path) for path in files_of(directory, name)}
  if lines is None:
    lines = _lines_by_phase(directory)[name.round, name.stem]
  provenance = place / PROVENANCE
  # It is written once, before the round's first phase: what it is now it must have been then.
  if PROVENANCE not in known and provenance.exists():
    known[PROVENANCE] = file_sha256(provenance)
  if own := [line for line in lines if line["phase"] == name.stem]:
    known[_of_lines(name)] = _lines_sha256(own)
  write_json(place / CHECKSUMS, known)


def forget_record(directory: RunDirectory, name: PhaseName) -> None:
  """To be called before a phase is played: it may write over what earlier ones left."""
  place = directory.round(name.round)
  known = _known_if_readable(place)
  forgotten = (*_names(name), _of_lines(name))
  kept = {file: sha256 for file, sha256 in known.items() if file not in forgotten}
  if kept != known:
    write_json(place / CHECKSUMS, kept)


def record_last(directory: RunDirectory, finished: Sequence[PhaseName]) -> None:
  """Takes the hashes of the last finished phase, which may have been stopped before it did."""
  for name in finished[-1:]:
    if name.result not in _known_if_readable(directory.round(name.round)):
      record_phase(directory, name)


def finished_phases(directory: RunDirectory, listed: Sequence[PhaseName]) -> list[PhaseName]:
  """Those before the first of `listed` that has no result."""
  has_result = ((directory.round(name.round) / name.result).exists() for name in listed)
  return [
    name
    for name, _ in itertools.takewhile(lambda one: one[1], zip(listed, has_result, strict=True))
  ]


def find_missing(directory: RunDirectory, listed: Sequence[PhaseName]) -> list[Damage]:
  """The first phase of `listed` that has no result though a later one has: no stop leaves that."""
  number = len(finished_phases(directory, listed))
  results = [directory.round(name.round) / name.result for name in listed[number:]]
  if not any(result.exists() for result in results[1:]):
    return []
  return [Damage(listed[number], results[0], "is gone, though later phases are finished")]


def files_of(directory: RunDirectory, name: PhaseName) -> list[Place]:
  """The files that a finished phase left in its round's directory, its result first."""
  paths = [directory.round(name.round) / file for file in _names(name)]
  return [path for path in paths if path.exists()]


def find_damage(
  directory: RunDirectory, finished: Sequence[PhaseName], playing: PhaseName | None
) -> list[Damage]:
  """What is no longer as finished phases left it, in their order.

  Args:
    directory: the run's, of which nothing is written.
    finished: its finished phases. The last may have been stopped before its hashes were taken.
    playing: the phase behind them, which may have begun to write over what they left.
  """
  found, seen, lines = [], set(), _lines_by_phase(directory)
  for number, name in enumerate(finished):
    place = directory.round(name.round)
    try:
      known = _known(place)
    except _UNREADABLE as error:
      found.append(Damage(name, place / CHECKSUMS, f"cannot be read: {error}"))
      continue
    if name.result not in known and number == len(finished) - 1:
      continue
    rewritten = _names(playing) if playing and playing.round == name.round else ()
    for file in _names(name):
      if place / file in seen:
        continue  # an earlier phase's, which this one has written over
      seen.add(place / file)
      if file in known or file not in rewritten:
        problem = _problem(place / file, known.get(file))
        if problem:
          found.append(Damage(name, place / file, problem))
    if PROVENANCE in known and place / PROVENANCE not in seen:
      seen.add(place / PROVENANCE)
      problem = _problem(place / PROVENANCE, known[PROVENANCE])
      if problem:
        found.append(Damage(name, place / PROVENANCE, problem))
    sha256 = known.get(_of_lines(name))
    if sha256 not in (None, _lines_sha256(lines[name.round, name.stem])):
      record = record_of(directory.path)
      problem = "has changed since" if record.exists() else "is gone"
      found.append(Damage(name, record, problem))
  return found


def _of_lines(name: PhaseName) -> str:
  """What the hash of a phase's lines is called."""
  return f"metrics.jsonl: {name.stem}"


def _lines_by_phase(directory: RunDirectory) -> dict[tuple[int, str], list[Mapping[str, Any]]]:
  found = collections.defaultdict(list)
  for line in good_lines(directory.path):
    found[line["round"], line["phase"]].append(line)
  return found


def _lines_sha256(lines: Lines) -> str:
  return hashlib.sha256("\n".join(map(json_line, lines)).encode()).hexdigest()


def _names(name: PhaseName) -> tuple[str, ...]:
  return (name.result, *BESIDE.get(name.result, ()))


def _known(place: Place) -> dict[str, str]:
  path = place / CHECKSUMS
  return dict(read_json(path)) if path.exists() else {}


def _known_if_readable(place: Place) -> dict[str, str]:
  """The same for whoever writes them: damaged ones were refused, or are being repaired."""
  try:
    return _known(place)
  except _UNREADABLE:
    return {}


def _problem(path: Place, known: str | None) -> str:
  """What is wrong with a file; empty where nothing is."""
  try:
    if known is None:
      # Only the game has golden samples, and not every run keeps judgements.
      return "has no checksum" if path.exists() else ""
    return "" if file_sha256(path) == known else "has changed since"
  except FileNotFoundError:
    return "is gone"
  except OSError as error:
    return f"cannot be read ({error.strerror})"
