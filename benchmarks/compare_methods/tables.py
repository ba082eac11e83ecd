"""Fills docs/methods.md with tables of what lies in docs/methods_compared.

python -m benchmarks.compare_methods.tables            # writes
python -m benchmarks.compare_methods.tables --check    # says whether the page is as it would be
"""

import sys
from collections.abc import Callable, Mapping, Sequence
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
from benchmarks.does_apo_help.estimates import TESTED, Contrast, as_family, mean_of, minus
from benchmarks.does_apo_help.results import Results, read_results
from benchmarks.pages import Parser, cell, filled, signed, table

_AGAINST = "dpo"
_SIGNIFICANT = 0.05
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
  """Every method with its best rate, the highest utility after the last round first."""

  def by_seed(method: str, round: int, number: str = TESTED) -> dict[int, float]:
    return game.by_seed({"method": method, RATE: best[method]}, round, number)

  def utility(method: str) -> float:
    return mean_of(by_seed(method, game.last_round)).value

  played = [method for method in best if by_seed(method, game.last_round)]
  methods = sorted(played, key=utility, reverse=True)
  heading, rows = _numbers(game, methods, by_seed, _AGAINST, "less DPO's")
  named = [
    [f"[`{method}`](../configs/methods/{method}.py)", *cells, best[method]]
    for method, cells in zip(methods, rows, strict=True)
  ]
  return table(["", *heading, "learning rate"], named)


def contrasted(results: Results) -> str:
  """What the adversarial term may contrast, the game's own first."""

  def by_seed(contrast: str, round: int, number: str = TESTED) -> dict[int, float]:
    return results.by_seed({CONTRAST: contrast}, round, number)

  heading, rows = _numbers(results, CONTRASTS, by_seed, CONTRASTS[0], "less the game's")
  named = [[f"`{one}`", *cells] for one, cells in zip(CONTRASTS, rows, strict=True)]
  return table(["", *heading], named)


def _numbers(
  results: Results,
  names: Sequence[str],
  by_seed: Callable[..., dict[int, float]],
  against: str,
  less: str,
) -> tuple[list[str], list[list[str]]]:
  """The columns' titles, and of each name how many seeds, true utility, and the further columns.

  Utility stands after the first round, in which all have the same samples, and after the last, with
  what it is less than that of `against`. The differences of a round are a family of tests.

  Args:
    results: whose rounds there are.
    names: of what is compared.
    by_seed: a number of a name after a round, true utility if none is named.
    against: the name that others are held against.
    less: what the difference is called.
  """
  last = results.last_round
  heading, rows = ["seeds"], [[f"{len(by_seed(name, last))}"] for name in names]
  others = [name for name in names if name != against]
  for round in dict.fromkeys((1, last)):
    heading += [f"utility, round {round}", less]
    differences = [minus(by_seed(name, round), by_seed(against, round)) for name in others]
    found = dict(zip(others, as_family(differences), strict=True))
    for name, row in zip(names, rows, strict=True):
      row += [cell(mean_of(by_seed(name, round)), 3), _difference(found.get(name))]
  for number, (title, digits) in _COLUMNS.items():
    heading.append(title)
    for name, row in zip(names, rows, strict=True):
      row.append(cell(mean_of(by_seed(name, last, number)), digits))
  return heading, rows


def _difference(found: Contrast | None) -> str:
  """With a star where it is significant behind Holm's correction."""
  if found is None:
    return ""
  return signed(found.estimate, 3) + (" \\*" if found.corrected_p < _SIGNIFICANT else "")


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
