"""The comparison of methods: what the search takes, and the tables made of results."""

import json
import shlex

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.sweep.grid import make_grid
from benchmarks.compare_methods import collect, search, tables
from benchmarks.compare_methods.methods import (
  CONTRAST,
  CONTRASTS,
  COST,
  GAME,
  INVERSE_RL,
  RATE,
  RATES,
  SEARCH,
  all_methods,
  config_of,
)
from benchmarks.does_apo_help.results import Results, Row, write_results
from tests.tiny import ROOT

KNOWN = {"commit": "c", "played": "a command"}


def results(utility, methods, rates, seeds, rounds=(0, 1)):
  """`utility(method, rate, seed, round)` for each."""
  return [
    Row(
      {"method": method, RATE: rate},
      seed,
      round,
      {"true_utility": utility(method, rate, seed, round)},
    )
    for method in methods
    for rate in rates
    for seed in seeds
    for round in rounds
  ]


def searched(method, rate, seed, round):
  """Best at the highest rate for ipo and at the lowest for dpo, after round 1; not before."""
  worth = RATES.index(rate) * (1 if method == "ipo" else -1)
  return (0.1 * worth if round else -worth) + 0.01 * seed


def test_the_search_is_a_grid_of_all_methods_and_rates(capsys, monkeypatch):
  monkeypatch.chdir(ROOT)
  assert search.main([]) == 0
  cells = make_grid([capsys.readouterr().out.strip()], "5,6")
  assert len(cells) == len(all_methods()) * len(RATES) * 2 and len(all_methods()) > 25
  assert all(config_of(method).is_file() for method in all_methods())


def test_the_rate_of_the_highest_mean_after_the_last_round_is_taken(tmp_path, capsys):
  rows = results(searched, ("dpo", "ipo"), RATES, (5, 6))
  assert search.best_rates(Results(rows, {})) == {"dpo": RATES[0], "ipo": RATES[-1]}
  write_results(tmp_path / SEARCH, rows, KNOWN)
  assert search.main(["--found", f"--results={tmp_path}"]) == 0
  (axis,) = shlex.split(capsys.readouterr().out)
  assert [cell.overrides for cell in make_grid([axis], None)] == [
    {"config": "configs/methods/dpo.py", RATE: RATES[0]},
    {"config": "configs/methods/ipo.py", RATE: RATES[-1]},
  ]


def test_a_range_that_the_best_ends_is_widened():
  found = Results(results(searched, ("dpo", "ipo"), RATES, (5, 6)), {})
  assert search.wider(found) == [("dpo", "2e-5"), ("ipo", "2e-3")]
  more = results(lambda *_: 0.0, ("ipo",), ("2e-3",), (5, 6))
  found = Results([*found.rows, *more], {})
  assert search.wider(found) == [("dpo", "2e-5")]
  assert tables.searched(found).splitlines()[2:] == [
    "| dpo | 0.055 | -0.045 | -0.145 |  | 7e-5 |",
    "| ipo | 0.055 | 0.155 | 0.255 | 0.000 | 6e-4 |",
  ]


def test_a_middle_that_is_best_is_not_widened():
  def peak(method, rate, seed, round):
    return float(rate == RATES[1])

  assert search.wider(Results(results(peak, ("dpo",), RATES, (5,)), {})) == []


def test_rows_of_other_runs_are_kept():
  before = results(lambda *_: 0.0, ("dpo", "ipo"), RATES[:1], (0, 1))
  after = results(lambda *_: 1.0, ("ipo",), RATES[:1], (1, 2))
  joined = Results(collect.beside(before, after), {})
  assert joined.by_seed({"method": "dpo"}, 1, "true_utility") == {0: 0.0, 1: 0.0}
  assert joined.by_seed({"method": "ipo"}, 1, "true_utility") == {0: 0.0, 1: 1.0, 2: 1.0}


def test_methods_are_told_by_utility_and_beside_dpo_seed_by_seed(tmp_path):
  def utility(method, rate, seed, round):
    return 0.5 + 0.1 * seed + (0.25 + 0.01 * seed) * (method == "ipo")

  rows = results(utility, ("dpo", "ipo"), ("2e-4",), (0, 1, 2))
  # What was played with another rate before a wider search does not count.
  rows += results(lambda *_: 1.0, ("ipo",), ("6e-4",), (0, 1, 2))
  text = tables.compared(Results(rows, {}), {"dpo": "2e-4", "ipo": "2e-4"})
  first, second = text.splitlines()[2:]
  assert first.startswith("| [`ipo`]") and second.startswith("| [`dpo`]")
  # The mean of 0.75, 0.86, 0.97, and of the differences 0.25, 0.26, 0.27, which are no chance.
  assert "| 3 | 0.860 ± 0.064 | +0.260 ± 0.006 \\* |" in first and first.endswith("| 2e-4 |")


def test_the_page_is_filled_and_held_to_its_results(tmp_path, capsys):
  write_results(tmp_path / SEARCH, results(searched, ("dpo",), RATES, (5,)), KNOWN)
  write_results(tmp_path / GAME, results(searched, ("dpo",), RATES[:1], (0,)), KNOWN)
  contrasts = [
    Row({CONTRAST: one}, 0, 1, {"true_utility": 0.5 - 0.1 * place})
    for place, one in enumerate(CONTRASTS)
  ]
  write_results(tmp_path / INVERSE_RL, contrasts, KNOWN)
  costs = {"ipo": {"ratio": 1.25, "memory_ratio": 2.0}, "dpo": {"ratio": 1.0, "memory_ratio": 1.0}}
  (tmp_path / COST).write_text(json.dumps({"losses": costs}))
  page = tmp_path / "page.md"
  names = ("cost", "compared", "search", "inverse_rl")
  page.write_text("".join(f"<!-- begin {name} -->\n<!-- end {name} -->\n" for name in names))
  flags = [f"--results={tmp_path}", f"--page={page}"]
  assert tables.main([*flags, "--check"]) == 2
  assert tables.main(flags) == 0 and tables.main([*flags, "--check"]) == 0
  assert "| dpo | 0.050 | -0.050 | -0.150 | 7e-5 |" in page.read_text()
  assert "| `supervised_vs_initial` | 1 | 0.300" in page.read_text()
  assert "| `dpo` | 1.00 | 1.00 |\n| `ipo` | 1.25 | 2.00 |" in page.read_text()
  page.write_text("")
  assert tables.main(flags) == 2 and "lacks the markers" in capsys.readouterr().err
  with pytest.raises(ConfigError):
    search.read_results(tmp_path)
  (tmp_path / COST).unlink()
  assert tables.main(flags) == 2 and "benchmarks.methods writes it" in capsys.readouterr().err


def test_the_page_is_what_its_results_make_of_it(monkeypatch):
  monkeypatch.chdir(ROOT)
  assert tables.main(["--check"]) == 0
