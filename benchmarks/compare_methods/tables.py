"""Fills docs/methods.md with tables of what lies in docs/methods_compared.

python -m benchmarks.compare_methods.tables            # writes
python -m benchmarks.compare_methods.tables --check    # says whether the page is as it would be
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apo_jax.config.command_line import refuse
from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import read_json, write_text
from benchmarks.compare_methods.methods import COST, GAME, RATE, RATES, SEARCH
from benchmarks.compare_methods.search import best_rates, utility
from benchmarks.does_apo_help.estimates import TESTED, mean_of, minus
from benchmarks.does_apo_help.results import Results, read_results
from benchmarks.pages import Parser, cell, filled, signed, table

_AGAINST = "dpo"
# Columns by number, and their decimals.
_COLUMNS = {
  "judge_gap": ("judge's gap", 2),
  "kl_to_start": ("KL, nats", 2),
  "win_rate_golden": ("judge's win rate against golden", 2),
  "response_length": ("tokens", 1),
  "improper_ending": ("improper ending", 2),
  "own_accuracy": ("reward accuracy, own samples", 2),
}


def main(arguments: Sequence[str]) -> int:
  """Fills or checks the page; returns the exit code."""
  parser = Parser(
    prog="python -m benchmarks.compare_methods.tables",
    description=__doc__.split("\n")[0],
    allow_abbrev=False,
  )
  folder = Path("docs/methods_compared")
  parser.add_argument("--results", type=Path, default=folder, metavar="DIR")
  parser.add_argument("--page", type=Path, default=Path("docs/methods.md"), metavar="FILE")
  parser.add_argument("--check", action="store_true", help="Write nothing; 1 where it would.")
  given = parser.parse_args(arguments)
  try:
    search, game = (read_results(given.results / name) for name in (SEARCH, GAME))
    costs = _costs(given.results / COST)
    before = given.page.read_text(encoding="utf-8")
    blocks = {"cost": cost(costs), "compared": compared(game), "search": searched(search)}
    after = filled(before, blocks)
  except ConfigError as error:
    return refuse(str(error))
  except OSError as error:
    return refuse(f"--page is {str(given.page)!r}, which cannot be read: {error}.")
  if given.check and after != before:
    return refuse(f"{given.page} is not what the results in {given.results} make of it.")
  if not given.check:
    write_text(given.page, after)
    print(given.page)
  return 0


def _costs(path: Path) -> Mapping[str, Any]:
  try:
    return read_json(path)
  except (OSError, ValueError) as error:
    raise ConfigError(f"{path} cannot be read: {error}; benchmarks.methods writes it.") from error


def cost(found: Mapping[str, Any]) -> str:
  """A step's time and memory with every loss, in those of DPO's."""
  rows = [
    [f"`{name}`", f"{one['ratio']:.2f}", f"{one['memory_ratio']:.2f}"]
    for name, one in sorted(found["losses"].items(), key=lambda item: item[1]["ratio"])
  ]
  return table(["", "time", "memory"], rows)


def compared(game: Results) -> str:
  """Every method after the last round, the highest utility first."""
  last = game.last_round
  methods = {row.setting["method"]: row.setting for row in game.rows}
  theirs = game.by_seed({"method": _AGAINST}, last, TESTED)

  def mean_utility(method: str) -> float:
    return mean_of(game.by_seed({"method": method}, last, TESTED)).value

  rows = []
  for method in sorted(methods, key=mean_utility, reverse=True):
    ours = game.by_seed({"method": method}, last, TESTED)
    more = "" if method == _AGAINST else signed(mean_of(minus(ours, theirs)), 3)
    others = [
      cell(mean_of(game.by_seed({"method": method}, last, number)), digits)
      for number, (_, digits) in _COLUMNS.items()
    ]
    cells = [cell(mean_of(ours), 3), more, *others, methods[method][RATE]]
    rows.append([f"[`{method}`](../configs/methods/{method}.py)", f"{len(ours)}", *cells])
  titles = [title for title, _ in _COLUMNS.values()]
  heading = ["", "seeds", "true utility", "less DPO's", *titles, "learning rate"]
  return f"After round {last}:\n\n" + table(heading, rows)


def searched(search: Results) -> str:
  """True utility at every learning rate, and the one that is taken."""
  best = best_rates(search)
  rows = [
    [method, *(f"{utility(search, method, rate):.3f}" for rate in RATES), best[method]]
    for method in sorted(best)
  ]
  return table(["", *RATES, "taken"], rows)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
