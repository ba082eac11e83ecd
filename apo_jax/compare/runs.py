"""The runs that are compared, as they lie on disk."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from apo_jax.config.base import fields_of_json
from apo_jax.config.fields import ConfigError
from apo_jax.evaluation.record import read_measured
from apo_jax.evaluation.uncertainty import Measured
from apo_jax.logs.files import read_json
from apo_jax.logs.metrics import read_metrics
from apo_jax.logs.places import Place, directories_below, resolved
from apo_jax.logs.run_directory import EVALUATION, JUDGEMENTS, RunDirectory
from apo_jax.run.branched import Branch, read_branch


@dataclasses.dataclass(frozen=True)
class Round:
  """What a run's files hold of a judged round.

  Attributes:
    evaluation: the content of evaluation.json.
    queries: numbers over test queries.
    preferences: numbers over test preferences.
  """

  evaluation: Mapping[str, Any]
  queries: Measured
  preferences: Measured

  @property
  def numbers(self) -> list[str]:
    """The names of all numbers, in the file's order."""
    return list(self.evaluation["standard_errors"])


@dataclasses.dataclass(frozen=True)
class ComparedRun:
  """A run.

  Attributes:
    path: its directory.
    config: its config's fields.
    data: the hash of its data; None where the run does not say.
    rounds: its judged rounds by number.
    metrics: the lines of metrics.jsonl.
    branch: what it was branched from; None where it began by itself.
  """

  path: Place
  config: Mapping[str, Any]
  data: str | None
  rounds: Mapping[int, Round]
  metrics: Sequence[Mapping[str, Any]]
  branch: Branch | None = None

  @property
  def name(self) -> str:
    """What its directory is called."""
    return resolved(self.path).name

  @property
  def seed(self) -> int:
    """The seed of the whole game: of its data, its weights and its samples."""
    return self.config["seed"]


class Found(NamedTuple):
  """The runs, and a sentence for each that was left out."""

  runs: list[ComparedRun]
  left_out: list[str]


def find_runs(paths: Sequence[Place], round: int | None = None) -> Found:
  """Reads the runs of these directories, each a run or a folder with runs anywhere below it.

  Args:
    paths: of runs and folders; what is named twice is read once.
    round: the round that every run must have finished; None means all that its config asks for.

  Returns:
    the runs in the order of the paths and, in a folder, of names, numbers by their size. A run of a
    folder that is unfinished or damaged is left out, with a sentence.

  Raises:
    ConfigError: there is no such directory or no run in it, a run that is named itself is
      unfinished or damaged, or none is left.
  """
  found = Found([], [])
  seen: set[str] = set()
  for path in paths:
    if not path.is_dir():
      raise ConfigError(f"{path} is named, but is no directory; give a run, or a folder of runs.")
    is_named = _is_run(path)
    below = [path] if is_named else _runs_below(path)
    if not below:
      raise ConfigError(
        f"{path} is named, but no run is in it; a run has a config.json beside its rounds/."
      )
    for directory in below:
      if str(resolved(directory)) in seen:
        continue
      seen.add(str(resolved(directory)))
      try:
        found.runs.append(_read_run(directory, round))
      except ConfigError as error:
        if is_named:
          raise
        found.left_out.append(str(error))
  if not found.runs:
    raise ConfigError(f"No run is left to compare. {' '.join(found.left_out)}")
  return found


def _is_run(path: Place) -> bool:
  place = RunDirectory(path)
  # An exported model has a config.json too.
  return place.config.is_file() and (place.rounds.is_dir() or place.data.is_file())


def _runs_below(folder: Place) -> list[Place]:
  runs = []
  for directory, inner in directories_below(folder):
    if _is_run(directory):
      runs.append(directory)
      inner.clear()  # no run lies in a run
  return sorted(runs, key=lambda run: _by_size_of_numbers(str(run)))


def _by_size_of_numbers(text: str) -> list[tuple[int, str]]:
  return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def _read_run(path: Place, round: int | None) -> ComparedRun:
  try:
    return _read_whole_run(path, round)
  except ConfigError:
    raise
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    said = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
    raise ConfigError(f"{path} is damaged: {said}.") from error


def _read_whole_run(path: Place, round: int | None) -> ComparedRun:
  place = RunDirectory(path)
  fields = fields_of_json(read_json(place.config), f"the run in {path}")
  last = fields["rounds"] if round is None else round
  judged = {
    int(file.parent.name)
    for file in place.rounds.glob(f"*/{EVALUATION}")
    if file.parent.name.isdecimal()
  }
  if not judged.issuperset(range(last + 1)):
    known = ", ".join(map(str, sorted(judged))) or "none"
    raise ConfigError(f"{path} has not finished round {last}; its finished rounds: {known}.")
  return ComparedRun(
    path=path,
    config=fields,
    data=read_json(place.data)["sha256"] if place.data.exists() else None,
    rounds={number: _read_round(place.round(number)) for number in sorted(judged)},
    metrics=read_metrics(path),
    branch=read_branch(place),
  )


def _read_round(place: Place) -> Round:
  evaluation = read_json(place / EVALUATION)
  if not (place / JUDGEMENTS).exists():
    raise ValueError(f"{place} has no {JUDGEMENTS}.")
  measured = read_measured(evaluation, read_json(place / JUDGEMENTS))
  for part in measured:
    for name, estimate in part.estimates.items():
      if len(estimate.pseudo_values) != len(part.ids):
        raise ValueError(f"{place / JUDGEMENTS} has not one {name} for each of its ids.")
  return Round(evaluation, *measured)
