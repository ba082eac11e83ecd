"""Fills docs/methods.md with tables of what lies in docs/methods_compared.

python -m benchmarks.compare_methods.tables            # writes
python -m benchmarks.compare_methods.tables --check    # says whether the page is as it would be
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from apo_jax.config.command_line import refuse
from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import read_json, write_text
from benchmarks.compare_methods.methods import (
  ALL_RATES,
  CONTRAST,
  CONTRASTS,
  COST,
  GAME,
  INVERSE_RL,
  RATE,
  SEARCH,
)
from benchmarks.compare_methods.search import best_rates, tried, utility
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
    search, game, inverse_rl = (
      read_results(given.results / name) for name in (SEARCH, GAME, INVERSE_RL)
    )
    costs = _costs(given.results / COST)
    before = given.page.read_text(encoding="utf-8")
    best = best_rates(search)
    blocks = {
      "cost": cost(costs),
      "compared": compared(game, best),
      "search": searched(search),
      "inverse_rl": contrasted(inverse_rl),
    }
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


def compared(game: Results, best: Mapping[str, str]) -> str:
  """Every method with its best rate after the last round, the highest utility first."""
  last = game.last_round

  def by_seed(method: str, number: str = TESTED) -> dict[int, float]:
    return game.by_seed({"method": method, RATE: best[method]}, last, number)

  played = [method for method in best if by_seed(method)]
  rows = []
  for method in sorted(played, key=lambda name: mean_of(by_seed(name)).value, reverse=True):
    cells = _cells(partial(by_seed, method), None if method == _AGAINST else by_seed(_AGAINST))
    rows.append([f"[`{method}`](../configs/methods/{method}.py)", *cells, best[method]])
  heading = ["", *_heading("less DPO's"), "learning rate"]
  return f"After round {last}:\n\n" + table(heading, rows)


def contrasted(results: Results) -> str:
  """What the adversarial term may contrast, the game's own first, after the last round."""
  last = results.last_round

  def by_seed(contrast: str, number: str = TESTED) -> dict[int, float]:
    return results.by_seed({CONTRAST: contrast}, last, number)

  rows = [
    [f"`{one}`", *_cells(partial(by_seed, one), by_seed(CONTRASTS[0]) if place else None)]
    for place, one in enumerate(CONTRASTS)
  ]
  return f"After round {last}:\n\n" + table(["", *_heading("less the game's")], rows)


def _heading(less: str) -> list[str]:
  return ["seeds", "true utility", less, *(title for title, _ in _COLUMNS.values())]


def _cells(by_seed: Callable[..., dict[int, float]], theirs: dict[int, float] | None) -> list[str]:
  """How many seeds, true utility, what it has more than another's, and the further columns."""
  ours = by_seed()
  others = [
    cell(mean_of(by_seed(number=number)), digits) for number, (_, digits) in _COLUMNS.items()
  ]
  more = "" if theirs is None else signed(mean_of(minus(ours, theirs)), 3)
  return [f"{len(ours)}", cell(mean_of(ours), 3), more, *others]


def searched(search: Results) -> str:
  """True utility at every learning rate, and the one that is taken."""
  best, rates = best_rates(search), tried(search)
  columns = [rate for rate in ALL_RATES if any(rate in one for one in rates.values())]
  rows = []
  for method in sorted(best):
    cells = [
      f"{utility(search, method, rate):.3f}" if rate in rates[method] else "" for rate in columns
    ]
    rows.append([method, *cells, best[method]])
  return table(["", *columns, "taken"], rows)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
