"""Fills docs/does_apo_help.md with tables and figures of what lies in docs/results.

    python -m benchmarks.does_apo_help.tables            # writes
    python -m benchmarks.does_apo_help.tables --check    # says whether the page is as it would be

It reads the committed CSV files alone. In the page, what stands between `<!-- begin NAME -->` and
`<!-- end NAME -->` is its own; the rest is left as it is.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from apo_jax.config.command_line import refuse
from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import write_text
from benchmarks.does_apo_help.blocks import all_blocks
from benchmarks.does_apo_help.parts import FOLDERS, WORLDS
from benchmarks.does_apo_help.results import Results, read_results
from benchmarks.pages import Parser, filled


def main(arguments: Sequence[str]) -> int:
  """Fills or checks the page; returns the exit code."""
  parser = Parser(
    prog="python -m benchmarks.does_apo_help.tables",
    description=__doc__.split("\n")[0],
    allow_abbrev=False,
  )
  parser.add_argument("--results", type=Path, default=Path("docs/results"), metavar="DIR")
  parser.add_argument("--page", type=Path, default=Path("docs/does_apo_help.md"), metavar="FILE")
  parser.add_argument("--check", action="store_true", help="Write nothing; 1 where it would.")
  given = parser.parse_args(arguments)
  try:
    parts = read_parts(given.results)
    before = given.page.read_text(encoding="utf-8")
    after = filled(before, all_blocks(parts))
  except ConfigError as error:
    return refuse(str(error))
  except OSError as error:
    return refuse(f"--page is {str(given.page)!r}, which cannot be read: {error}.")
  if given.check:
    if after == before:
      return 0
    return refuse(
      f"{given.page} is not what the results in {given.results} make of it; run"
      " `python -m benchmarks.does_apo_help.tables`."
    )
  from benchmarks.does_apo_help.plots import write_plots  # matplotlib is slow to import

  write_text(given.page, after)
  for world in WORLDS:
    if world.folder in parts:
      write_plots(parts[world.folder], given.results / world.folder)
  print(f"{given.page}, of {', '.join(parts) or 'no results'}")
  return 0


def read_parts(folder: Path) -> dict[str, Results]:
  """The results that are there, by the names of their folders, in the page's order.

  Raises:
    ConfigError: a folder is of no known part, or holds no results.
  """
  there = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
  for name in there:
    if name not in FOLDERS:
      raise ConfigError(f"{folder / name} is no part of the experiment: {', '.join(FOLDERS)}.")
  return {name: read_results(folder / name) for name in FOLDERS if name in there}


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
