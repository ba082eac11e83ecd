"""One small CSV of finished runs, which the page's tables and figures are made from.

    python -m benchmarks.does_apo_help.collect runs/sweeps/uncovered --only='reward.mode=*' \
      --output=docs/results/uncovered --played="python -m apo_jax.sweep --config=… --set …"

A row is a run after a round: all numbers of evaluation.json and, as `score.NAME`, of score.json;
what the round's reward model says of the policy's own samples, against the truth; and how far
rewards ran ahead of utility. Unfinished runs are left out and named. No model is read.
"""

import datetime
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from apo_jax.compare.runs import ComparedRun, Found, find_runs
from apo_jax.compare.settings import Setting, make_settings
from apo_jax.config.command_line import refuse
from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import read_json, read_jsonl
from apo_jax.logs.run_directory import POLICY_SAMPLES, SCORE, TEST_SAMPLES, RunDirectory
from benchmarks.does_apo_help.failures import improper_ending
from benchmarks.does_apo_help.gaps import gap_numbers
from benchmarks.does_apo_help.own_samples import own_sample_numbers, read_sampled
from benchmarks.does_apo_help.results import FIELDS, Row, write_results
from benchmarks.pages import Parser

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def main(arguments: Sequence[str]) -> int:
  """Collects what the flags say; returns the exit code."""
  parser = Parser(
    prog="python -m benchmarks.does_apo_help.collect",
    description=__doc__.split("\n")[0],
    allow_abbrev=False,
  )
  parser.add_argument(
    "sweep", type=Path, metavar="SWEEP_DIR", help="The folder that the runs lie in."
  )
  parser.add_argument(
    "--only", default="*", metavar="PATTERN", help="Which of its runs, such as 'reward.mode=*'."
  )
  parser.add_argument(
    "--output", type=Path, required=True, metavar="DIR", help="Such as docs/results/uncovered."
  )
  parser.add_argument(
    "--played", required=True, metavar="COMMAND", help="The command that played the runs."
  )
  parser.add_argument(
    "--commit", help="Of the code that played them; by default of the checkout that they lie in."
  )
  given = parser.parse_args(arguments)
  try:
    commit = given.commit or commit_of(given.sweep)
    rows, facts = collect(given.sweep, given.only)
    command = shlex.join(("python", "-m", "benchmarks.does_apo_help.collect", *arguments))
    provenance = {"played": given.played, "collected": command, "commit": commit, **facts}
    write_results(given.output, rows, provenance)
  except ConfigError as error:
    return refuse(str(error))
  except (OSError, ValueError) as error:
    return refuse(f"The runs cannot be collected: {error}")
  for sentence in facts["left_out"]:
    print(f"Left out: {sentence}")
  print(f"{facts['runs']} runs of {facts['settings']} settings: {given.output}")
  return 0


def collect(sweep: Path, only: str = "*") -> tuple[list[Row], dict[str, Any]]:
  """The rows of all finished runs of a folder, and what is to be known of them.

  Args:
    sweep: the folder.
    only: the pattern that the names of runs must match.

  Raises:
    ConfigError: no run is finished, or two are the same (`find_runs`, `make_settings`).
    OSError, ValueError: a file of samples is not there or is damaged.
  """
  runs, left_out = finished_runs(sweep, only)
  settings = make_settings(runs)
  fields = telling_fields(settings)
  rows = [
    Row({field: _value(run.config, field) for field in fields}, run.seed, round, numbers)
    for setting in settings
    for run in setting.runs
    for round, numbers in ((one, numbers_of(run, one)) for one in run.rounds)
  ]
  return rows, {"settings": len(settings), "left_out": left_out, **facts_of(runs)}


def facts_of(runs: Sequence[ComparedRun]) -> dict[str, Any]:
  """What is to be known of where runs come from."""
  versions = {name: metadata.version(name) for name in _PACKAGES}
  return {
    "date": datetime.date.today().isoformat(),
    "runs": len(runs),
    "seeds": sorted({run.seed for run in runs}),
    "devices": sorted({_devices(run) for run in runs}),
    "versions": {"python": platform.python_version(), **versions},
  }


def numbers_of(run: ComparedRun, round: int) -> dict[str, float]:
  """All numbers of a run after a round."""
  place = RunDirectory(run.path).round(round)
  found = {
    name: value
    for name, value in run.rounds[round].evaluation.items()
    if isinstance(value, float) and name != "round"
  }
  found["improper_ending"] = improper_ending(read_jsonl(place / TEST_SAMPLES))
  found |= gap_numbers(run, round)
  if round:
    sampled = read_sampled(read_jsonl(place / POLICY_SAMPLES))
    found |= own_sample_numbers(sampled, run.config["policy"]["unfinished"])
    score = read_json(place / SCORE)
    found |= {f"score.{name}": value for name, value in score.items() if isinstance(value, float)}
  return found


def telling_fields(settings: Sequence[Setting]) -> list[str]:
  """The fields that all settings have and that tell them apart, behind `FIELDS`."""
  common = [
    name
    for name in dict.fromkeys(name for setting in settings for name in setting.fields)
    if all(name in setting.fields for setting in settings) and name not in FIELDS
  ]
  return [*FIELDS, *common]


def _value(config: Mapping[str, Any], field: str) -> str:
  value: Any = config
  for part in field.split("."):
    value = value[part]
  return str(value)


def finished_runs(sweep: Path, only: str) -> Found:
  """The finished runs, and a sentence for each other one.

  Raises:
    ConfigError: there is none.
  """
  found = Found([], [])
  for path in sorted(sweep.glob(only)):
    if not (path / "config.json").is_file():
      continue  # what runs share, or their comparison
    try:
      found.runs.extend(find_runs([path]).runs)
    except ConfigError as error:
      found.left_out.append(str(error))
  if not found.runs:
    said = " ".join(found.left_out) or "It has no run."
    raise ConfigError(f"{sweep} has no finished run whose name matches {only!r}. {said}")
  return found


def _devices(run: ComparedRun) -> str:
  return read_json(RunDirectory(run.path).round(1) / "provenance.json")["devices"]


def commit_of(path: Path) -> str:
  """The commit of the checkout that a path lies in, with "+ changes" where it has some.

  Raises:
    ConfigError: it lies in none.
  """
  try:
    commit = _git(path, "rev-parse", "HEAD")
    return f"{commit} + changes" if _git(path, "status", "--porcelain", "-uno") else commit
  except (OSError, subprocess.CalledProcessError) as error:
    raise ConfigError(
      f"{path} lies in no checkout of the code that played it; name the commit by --commit."
    ) from error


def _git(path: Path, *arguments: str) -> str:
  folder = path if path.is_dir() else path.parent
  command = ("git", "-C", str(folder), *arguments)
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  return done.stdout.strip()


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
