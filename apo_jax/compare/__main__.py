"""Runs side by side: one page, CSV files and a table, with how sure each difference is.

    python -m apo_jax.compare runs/demo-1a2b3c4d runs/demo-5e6f7a8b --round=2
    python -m apo_jax.compare runs/sweeps/losses --baseline=policy.loss=rjs

Runs with equal configs but for the seed are one setting; the others are compared with the baseline.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from apo_jax.config.command_line import end_without_traceback, refuse, say
from apo_jax.config.fields import ConfigError
from apo_jax.config.folders import check_folder
from apo_jax.logs.places import Place, find_path, find_place, is_bucket


class _Parser(argparse.ArgumentParser):
  """Says what is wrong in one sentence, without a usage."""

  def error(self, message: str) -> NoReturn:
    sys.exit(refuse(f"{message}; see --help."))


def main(arguments: Sequence[str]) -> int:
  """Compares what the flags say; returns the exit code."""
  end_without_traceback()
  parser = _Parser(
    prog="python -m apo_jax.compare", description=__doc__.split("\n")[0], allow_abbrev=False
  )
  parser.add_argument(
    "runs", nargs="+", metavar="RUN", help="A run's directory, or a folder of runs."
  )
  parser.add_argument(
    "--output",
    metavar="DIR",
    help="Where to write; by default comparison/ in the folder that the runs are in.",
  )
  parser.add_argument(
    "--round", type=int, help="Of tables and tests; by default the last that all runs have."
  )
  parser.add_argument(
    "--baseline",
    metavar="NAME|RUN",
    help="The setting that all are compared with, by its name or a run; by default the first.",
  )
  given = parser.parse_args(arguments)
  # Imported late, so that a wrong flag is answered at once.
  from apo_jax.compare.comparison import compare
  from apo_jax.compare.page import write
  from apo_jax.compare.text import render
  from apo_jax.logs.endings import ended

  try:
    runs = [find_place(run, "RUN") for run in given.runs]
    output = _beside(runs) if given.output is None else find_path(given.output, "--output")
  except ConfigError as error:
    return refuse(str(error))

  def work() -> int:
    check_folder("--output", output)
    try:
      comparison = compare(runs, round=given.round, baseline=given.baseline)
      page = write(comparison, output)
    except ValueError as error:  # a file of samples that is not valid JSON
      raise ConfigError(str(error)) from error
    except OSError as error:
      raise ConfigError(
        f"--output is {str(output)!r}, which cannot be written: {error}."
      ) from error
    say(f"{render(comparison)}\n\n{page}")
    return 0

  return ended(work, output)


def _beside(runs: Sequence[Place]) -> Path:
  """comparison/ in the folder that was given, or that the runs lie in.

  Raises:
    ConfigError: they lie in a bucket.
  """
  if any(is_bucket(run) for run in runs):
    raise ConfigError("--output is missing; runs in a bucket are only read, so give a directory.")
  folders = [run.resolve() for run in runs]
  if len(folders) > 1 or (folders[0] / "rounds").is_dir():
    folders = [folder.parent for folder in folders]
  return Path(os.path.commonpath(folders)) / "comparison"


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
