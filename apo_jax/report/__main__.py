"""Two runs side by side, with what the second gains and how sure that is.

python -m apo_jax.report --compare runs/demo-1a2b3c4d runs/demo-5e6f7a8b --round=2
"""

import argparse
import sys
from pathlib import Path

from apo_jax.config.command_line import refuse
from apo_jax.report.compare import compare


def main(arguments: list[str]) -> int:
  """Prints what the flags ask for; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m apo_jax.report", description=__doc__.split("\n")[0]
  )
  parser.add_argument(
    "--compare",
    nargs=2,
    type=Path,
    required=True,
    metavar=("RUN_A", "RUN_B"),
    help="The runs' directories.",
  )
  parser.add_argument("--round", type=int, help="The round; by default the last that both have.")
  given = parser.parse_args(arguments)
  try:
    print(compare(*given.compare, given.round))
  except ValueError as error:  # a ConfigError, or a file that is not valid JSON
    return refuse(str(error))
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
