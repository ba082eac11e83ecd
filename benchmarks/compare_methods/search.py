"""The arguments of both sweeps: the search's, and the game's with the rates that it found.

    python -m benchmarks.compare_methods.search            # --set of the search
    python -m benchmarks.compare_methods.search --found    # --set of the game

The second reads docs/methods_compared/search.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from apo_jax.config.command_line import refuse
from apo_jax.config.fields import ConfigError
from benchmarks.compare_methods.methods import RATE, RATES, SEARCH, all_methods, config_of
from benchmarks.does_apo_help.estimates import TESTED, mean_of
from benchmarks.does_apo_help.results import Results, read_results
from benchmarks.pages import Parser


def main(arguments: Sequence[str]) -> int:
  """Prints the argument; returns the exit code."""
  parser = Parser(
    prog="python -m benchmarks.compare_methods.search", description=__doc__.split("\n")[0]
  )
  parser.add_argument("--found", action="store_true", help="The game's, with the rates found.")
  parser.add_argument("--results", type=Path, default=Path("docs/methods_compared"), metavar="DIR")
  given = parser.parse_args(arguments)
  pairs = [(method, rate) for method in all_methods() for rate in RATES]
  if given.found:
    try:
      pairs = list(best_rates(read_results(given.results / SEARCH)).items())
    except ConfigError as error:
      return refuse(str(error))
  values = ",".join(f"{config_of(method)}:{rate}" for method, rate in pairs)
  print(f"config,{RATE}={values}")
  return 0


def best_rates(search: Results) -> dict[str, str]:
  """By method, the rate with the highest mean of true utility over seeds, after the last round."""
  methods = dict.fromkeys(row.setting["method"] for row in search.rows)
  return {method: max(RATES, key=lambda rate: utility(search, method, rate)) for method in methods}


def utility(search: Results, method: str, rate: str) -> float:
  """The mean over the search's seeds."""
  setting = {"method": method, RATE: rate}
  return mean_of(search.by_seed(setting, search.last_round, TESTED)).value


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
