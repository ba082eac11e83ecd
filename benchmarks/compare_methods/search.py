"""The arguments of both sweeps: the search's, and the game's with the rates that it found.

    python -m benchmarks.compare_methods.search            # --set of the search
    python -m benchmarks.compare_methods.search --wider    # --set of what it has to try further
    python -m benchmarks.compare_methods.search --found    # --set of the game

The last two read docs/methods_compared/search.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from apo_jax.config.command_line import refuse
from apo_jax.config.fields import ConfigError
from benchmarks.compare_methods.methods import (
  ALL_RATES,
  RATE,
  RATES,
  SEARCH,
  all_methods,
  config_of,
)
from benchmarks.does_apo_help.estimates import TESTED, mean_of
from benchmarks.does_apo_help.results import Results, read_results
from benchmarks.pages import Parser


def main(arguments: Sequence[str]) -> int:
  """Prints the argument; returns the exit code."""
  parser = Parser(
    prog="python -m benchmarks.compare_methods.search", description=__doc__.split("\n")[0]
  )
  which = parser.add_mutually_exclusive_group()
  which.add_argument("--found", action="store_true", help="The game's, with the rates found.")
  which.add_argument("--wider", action="store_true", help="Rates beyond the best that end a range.")
  parser.add_argument("--results", type=Path, default=Path("docs/methods_compared"), metavar="DIR")
  given = parser.parse_args(arguments)
  pairs = [(method, rate) for method in all_methods() for rate in RATES]
  if given.found or given.wider:
    try:
      search = read_results(given.results / SEARCH)
    except ConfigError as error:
      return refuse(str(error))
    pairs = list(best_rates(search).items()) if given.found else wider(search)
    if not pairs:
      return refuse("No method's best rate is at an end of those that were tried.")
  values = ",".join(f"{config_of(method)}:{rate}" for method, rate in pairs)
  print(f"config,{RATE}={values}")
  return 0


def best_rates(search: Results) -> dict[str, str]:
  """By method, the rate with the highest mean of true utility over seeds, after the last round."""
  return {
    method: max(rates, key=lambda rate: utility(search, method, rate))
    for method, rates in tried(search).items()
  }


def wider(search: Results) -> list[tuple[str, str]]:
  """What is to be tried yet: a method and the rate beyond its best, which ends its range."""
  known, found = tried(search), []
  for method, best in best_rates(search).items():
    place = ALL_RATES.index(best)
    near = ALL_RATES[max(place - 1, 0) : place + 2]
    found += [(method, rate) for rate in near if rate not in known[method]]
  return found


def tried(search: Results) -> dict[str, list[str]]:
  """The rates of every method, the lowest first."""
  found = {(row.setting["method"], row.setting[RATE]) for row in search.rows}
  return {
    method: [rate for rate in ALL_RATES if (method, rate) in found]
    for method in sorted({method for method, _ in found})
  }


def utility(search: Results, method: str, rate: str) -> float:
  """The mean over the search's seeds."""
  setting = {"method": method, RATE: rate}
  return mean_of(search.by_seed(setting, search.last_round, TESTED)).value


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
