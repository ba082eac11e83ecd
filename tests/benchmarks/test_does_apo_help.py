"""The experiment's page: numbers of finished runs, the CSV of them, and the tables made of it."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from apo_jax.compare.runs import ComparedRun, Round
from apo_jax.data.samples import Sample
from apo_jax.evaluation.uncertainty import Measured, mean
from apo_jax.logs.files import read_json, write_json, write_jsonl
from benchmarks.does_apo_help import collect, golden_once, reward_size, tables
from benchmarks.does_apo_help.blocks import all_blocks
from benchmarks.does_apo_help.estimates import as_family, differences
from benchmarks.does_apo_help.failures import improper_ending
from benchmarks.does_apo_help.gaps import gap_numbers
from benchmarks.does_apo_help.own_samples import own_sample_numbers, read_sampled
from benchmarks.does_apo_help.parts import FIGURES, WORLDS
from benchmarks.does_apo_help.plots import write_plots
from benchmarks.does_apo_help.results import Results, Row, read_results, write_results
from configs import demo
from tests.compare import written
from tests.tiny import ROOT

PAGE, RESULTS = ROOT / "docs" / "does_apo_help.md", ROOT / "docs" / "results"


def sample(text, reward, utility, finished=True):
  scored = {"reward": reward, "shaped_reward": reward, "utility": utility, "logprob": -1.0}
  return {"text": text, "tokens": [len(text), *map(ord, text)], "finished": finished, **scored}


def query(name, *samples):
  return {"query_id": name, "query": "?", "samples": list(samples)}


def grid(gain, seeds=(0, 1, 2), provenance=None):
  """A grid of one round where `gain(mode, loss, seed)` is the utility after it."""
  rows = [
    Row(
      {"reward.mode": mode, "policy.loss": loss},
      seed,
      round,
      {"true_utility": gain(mode, loss, seed) if round else 0.0, "own_accuracy": 0.5},
    )
    for mode in ("adversarial", "preferences_only", "fixed")
    for loss in ("rjs", "rrhf", "dpo")
    for seed in seeds
    for round in (0, 1)
  ]
  known = {"runs": 27, "settings": 9, "seeds": list(seeds), "commit": "c" * 40}
  return Results(rows, {**known, "date": "today", "played": "a command"} | (provenance or {}))


# The committed page


def test_the_committed_page_is_what_the_committed_results_make(capsys):
  assert tables.main([f"--results={RESULTS}", f"--page={PAGE}", "--check"]) == 0


def test_a_changed_result_changes_the_page(tmp_path, capsys):
  shutil.copytree(RESULTS, tmp_path / "results")
  shutil.copy(PAGE, tmp_path / "page.md")
  flags = [f"--results={tmp_path / 'results'}", f"--page={tmp_path / 'page.md'}"]
  for file in sorted((tmp_path / "results").glob("*/provenance.json")):
    write_json(file, read_json(file) | {"runs": 12345})
  assert tables.main([*flags, "--check"]) == 2
  assert "run `python -m benchmarks.does_apo_help.tables`" in capsys.readouterr().err
  assert tables.main(flags) == 0
  assert "| 12345 |" in (tmp_path / "page.md").read_text()
  assert tables.main([*flags, "--check"]) == 0


@pytest.mark.parametrize("part", sorted(path.parent.name for path in RESULTS.glob("*/rounds.csv")))
def test_committed_results_say_what_they_are_of(part):
  results = read_results(RESULTS / part)
  runs = {(*row.setting.values(), row.seed) for row in results.rows}
  assert len(runs) == results.provenance["runs"]
  assert sorted({row.seed for row in results.rows}) == results.provenance["seeds"]
  assert len(results.provenance["commit"]) == 40
  assert (RESULTS / part / "rounds.csv").stat().st_size <= 200_000


def test_committed_figures_are_there():
  for world in WORLDS:
    if (RESULTS / world.folder).exists():
      for name in FIGURES:
        assert (RESULTS / world.folder / f"{name}.svg").read_text().startswith("<?xml")


# Numbers of a run's files


def test_own_samples_by_hand():
  # Pairs of different utility: a: (0, 1) right, (0, 2) a tie, (1, 2) wrong; b: (0, 1) wrong.
  sampled = read_sampled(
    [
      query("a", sample("1", 2.0, 1.0), sample("2", 1.0, 0.2), sample("3", 2.0, 0.6)),
      query("b", sample("4", 0.0, 0.9), sample("5", 3.0, 0.3), sample("6", -1.0, 0.3)),
    ]
  )
  numbers = own_sample_numbers(sampled, "as_is")
  # In b the pair (0, 2) is right. In a (1, 2): 0.2 has reward 1, 0.6 has 2, which is right too.
  assert numbers["own_accuracy"] == pytest.approx((1 + 0.5 + 1 + 0 + 1) / 5)
  assert numbers["mean_utility"] == pytest.approx((0.6 + 0.5) / 2)
  assert numbers["chosen_utility"] == pytest.approx((1.0 + 0.3) / 2)
  assert numbers["best_utility"] == pytest.approx((1.0 + 0.9) / 2)
  assert numbers["selection"] == pytest.approx((0.65 - 0.55) / (0.95 - 0.55))
  assert 0 < numbers["own_ece"] < 1


def test_what_may_not_be_learnt_from_is_not_chosen():
  rows = [query("a", sample("1", 9.0, 0.1, finished=False), sample("2", 1.0, 0.5))]
  rows += [query("b", sample(" ", 9.0, 0.0), sample("3", 2.0, 0.7))]
  numbers = own_sample_numbers(read_sampled(rows), "drop")
  assert numbers["chosen_utility"] == pytest.approx(0.6)
  assert math.isnan(numbers["selection"])  # one sample each is no choice
  assert numbers["own_accuracy"] == 0.0  # of all that is scored


def test_an_ending_is_proper_as_the_world_has_it():
  texts = (" Yes.", " Yes!", " Yes", " Yes..", "", " Yes. ", " It\n")
  rows = [query("a", *(sample(text, 0.0, 0.0) for text in texts))]
  assert improper_ending(rows) == pytest.approx(4 / 7)


def test_samples_are_read_as_they_are_written():
  (one,) = read_sampled([query("a", sample("1", 2.0, 1.0))])
  assert one.samples == (Sample("1", (1, 49), True, -1.0, None, 2.0, 2.0, 1.0),)


def run_of(rounds):
  """A run whose rounds have these values a query, by number."""
  judged = {}
  for round, values in rounds.items():
    estimates = {name: mean(np.array(each)) for name, each in values.items()}
    judged[round] = Round({}, Measured(["a", "b"], estimates), Measured([], {}))
  return ComparedRun(Path("run"), {"seed": 0}, None, judged, ())


def test_gaps_are_in_standard_deviations_of_the_start():
  root = math.sqrt(2)  # the standard deviation of 0 and 2
  start = {"true_utility": [0.0, 2.0], "testing_reward": [0.0, 20.0], "golden_margin": [4.0, 6.0]}
  now = {"true_utility": [1.0, 3.0], "testing_reward": [30.0, 30.0], "golden_margin": [2.0, 2.0]}
  numbers = gap_numbers(run_of({0: start, 1: now}), 1)
  assert numbers["utility_gain"] == pytest.approx(1 / root)
  assert numbers["judge_gain"] == pytest.approx(2 / root)
  assert numbers["reward_gain"] == pytest.approx(3 / root)  # nearer to golden is a gain
  assert numbers["judge_gap"] == pytest.approx(1 / root)
  assert numbers["reward_gap"] == pytest.approx(2 / root)
  assert set(gap_numbers(run_of({0: start}), 0).values()) == {0.0}


# The commands


def write_run(path, seed=0, **options):
  """A finished run with the files that are collected."""
  written.write_run(path, written.config(seed=seed), **options)
  place = path / "rounds" / "01"
  samples = query("a", sample("1", 2.0, 1.0), sample("2", 1.0, 0.2))
  write_jsonl(place / "policy_samples.jsonl", [samples])
  write_json(place / "score.json", {"reward_model": "01_reward", "sample_reward": 1.5})
  write_json(place / "provenance.json", {"devices": "1 cpu"})


def collected(sweep, output, *more):
  flags = (f"--output={output}", "--played=a command", "--commit=abc")
  return collect.main([str(sweep), *flags, *more])


def test_finished_runs_become_rows(tmp_path, capsys):
  for seed in range(2):
    write_run(tmp_path / "sweep" / f"seed={seed}", seed, gain=0.5)
  write_run(tmp_path / "sweep" / "seed=2", 2, num_rounds=0)
  write_run(tmp_path / "sweep" / "other", 3)
  (tmp_path / "sweep" / "shared").mkdir()
  output = tmp_path / "results"
  assert collected(tmp_path / "sweep", output, "--only=seed=*") == 0
  said = capsys.readouterr().out
  assert "seed=2 has not finished round 1" in said and "2 runs of 1 settings" in said
  results = read_results(output)
  assert [(row.seed, row.round) for row in results.rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
  assert results.rows[0].setting == {"reward.mode": "adversarial", "policy.loss": "dpo"}
  assert results.rows[1].numbers["own_accuracy"] == 1.0
  assert results.rows[1].numbers["score.sample_reward"] == 1.5
  assert "own_accuracy" not in results.rows[0].numbers
  evaluation = read_json(tmp_path / "sweep/seed=0/rounds/01/evaluation.json")
  assert results.rows[1].numbers["true_utility"] == pytest.approx(evaluation["true_utility"], 1e-5)
  known = results.provenance
  assert known["runs"] == 2 and known["seeds"] == [0, 1] and known["commit"] == "abc"
  assert "--only=seed=*" in known["collected"] and known["played"] == "a command"


def test_what_cannot_be_collected_is_refused_in_a_sentence(tmp_path, capsys):
  write_run(tmp_path / "sweep" / "seed=0")
  assert collected(tmp_path / "sweep", tmp_path / "out", "--only=loss=*") == 2
  assert "no finished run whose name matches 'loss=*'" in capsys.readouterr().err
  assert collect.main([str(tmp_path / "sweep"), f"--output={tmp_path}", "--played=x"]) == 2
  assert "lies in no checkout" in capsys.readouterr().err
  (tmp_path / "sweep/seed=0/rounds/01/policy_samples.jsonl").unlink()
  assert collected(tmp_path / "sweep", tmp_path / "out") == 2
  assert "policy_samples.jsonl" in capsys.readouterr().err
  with pytest.raises(SystemExit) as ended:
    collect.main([str(tmp_path / "sweep")])
  assert ended.value.code == 2 and not (tmp_path / "out").exists()


def test_results_come_back_as_they_were(tmp_path):
  results = grid(lambda mode, loss, seed: seed / 4)
  write_results(tmp_path, results.rows, results.provenance)
  assert read_results(tmp_path) == results


def test_a_page_that_does_not_fit_is_refused(tmp_path, capsys):
  page, results = tmp_path / "page.md", tmp_path / "results"
  flags = [f"--results={results}", f"--page={page}"]
  assert tables.main(flags) == 2 and "cannot be read" in capsys.readouterr().err
  page.write_text("<!-- begin unknown -->\n<!-- end unknown -->\n")
  assert tables.main(flags) == 2 and "'" in capsys.readouterr().err
  (results / "elsewhere").mkdir(parents=True)
  assert tables.main(flags) == 2 and "no part of the experiment" in capsys.readouterr().err


# Tables


def test_differences_are_paired_by_seed_and_corrected_over_all_worlds():
  def gain(mode, loss, seed):
    # Seeds differ by much, and the game's gain within a seed is 0.3, 0.31, 0.32.
    return seed + (0.3 + seed / 100 if mode == "adversarial" else 0.0)

  results = grid(gain)
  found = differences(results, 1, "true_utility")
  assert found[("adversarial", "fixed"), "dpo"] == pytest.approx({0: 0.3, 1: 0.31, 2: 0.32})
  assert found[("adversarial", "fixed"), ""] == pytest.approx({0: 0.3, 1: 0.31, 2: 0.32})
  one = as_family([found[("adversarial", "fixed"), "dpo"]])[0]
  assert one.estimate.standard_error == pytest.approx(0.01 / math.sqrt(3))
  blocks = all_blocks({"uncovered": results, "covered": results})
  row = "| adversarial − fixed | DPO | 3 | +0.310 ± 0.006 |"
  assert row in blocks["uncovered.differences"]
  # Of 12 differences a world, 4 are 0 in every seed, which is no spread to test.
  assert blocks["family"].startswith("16 differences are tested") and "16 below" in blocks["family"]
  (p,) = {
    line.split("|")[7].strip()
    for line in blocks["covered.differences"].split("\n")
    if "+0.310" in line
  }
  assert float(p) == pytest.approx(16 * one.test.p, abs=1e-4)


def test_seeds_that_are_not_played_yet_are_left_out_of_pairs():
  full, half = grid(lambda *_: 1.0), grid(lambda *_: 1.0)
  rows = [row for row in half.rows if row.seed or row.setting["policy.loss"] != "rjs"]
  found = differences(Results(rows, full.provenance), 1, "true_utility")
  assert set(found[("adversarial", "fixed"), "rjs"]) == {1, 2}
  assert set(found[("adversarial", "fixed"), "dpo"]) == {0, 1, 2}
  assert set(found[("adversarial", "fixed"), ""]) == {1, 2}


def test_a_factor_is_compared_with_its_usual_value():
  def row(value, seed, utility):
    setting = {"reward.mode": "adversarial", "policy.loss": "dpo", "reward.start": value}
    return Row(setting, seed, 1, {"true_utility": utility})

  values = {"previous": (0.5, 0.6, 0.7), "base": (0.4, 0.4, 0.6)}
  rows = [row(v, seed, one) for v, each in values.items() for seed, one in enumerate(each)]
  block = all_blocks({"reward_start": Results(rows, grid(lambda *_: 0.0).provenance)})[
    "reward_start"
  ]
  _, _, usual, base = block.split("\n")
  assert usual.startswith("| previous | 3 | 0.600 ± 0.058 |") and usual.endswith("|  |  |  |")
  assert base.startswith("| base | 3 | 0.467 ± 0.067 |") and "−0.133 ± 0.033" in base


def test_the_control_is_compared_with_the_game_of_its_loss():
  results = grid(lambda mode, loss, seed: 0.7 + seed / 10 if mode == "adversarial" else 0.5)
  kept = [
    row._replace(setting=row.setting | {"reward.checkpoint": f"r/{row.seed}"})
    for row in results.rows
    if row.setting == {"reward.mode": "fixed", "policy.loss": "rrhf"}
  ]
  block = all_blocks({"longer": results, "golden_once": Results(kept, results.provenance)})
  assert block["golden_once"].startswith("With RRHF, 3 seeds:")
  assert "| 1 | 0.800 ± 0.058 | 0.500 ± 0.000 | +0.300" in block["golden_once"]


def test_reward_models_of_other_sizes_are_compared_with_the_grid_s():
  results = grid(lambda mode, loss, seed: 0.1 * seed)
  other = [
    row._replace(
      setting={**row.setting, "reward.checkpoint": f"runs/reward_models/{size}/{row.seed}"},
      numbers={**row.numbers, "true_utility": row.numbers["true_utility"] + more},
    )
    for row in results.rows
    if row.setting == {"reward.mode": "adversarial", "policy.loss": "rjs"}
    for size, more in (("half", -0.25), ("double", 0.125))
  ]
  parts = {"uncovered": results, "reward_size": Results(other, results.provenance)}
  block = all_blocks(parts)["reward_size"]
  rows = [line for line in block.splitlines() if "wide" in line and "less that of" not in line]
  assert [row.split(" | ")[0] for row in rows] == [
    *("| half as wide", "| as wide as the policy", "| twice as wide")
  ]
  assert "−0.250 ± 0.000" in rows[0] and "+0.125 ± 0.000" in rows[2]


def test_figures_are_drawn_of_what_there_is(tmp_path):
  results = grid(lambda mode, loss, seed: float(seed))
  rows = [row for row in results.rows if row.setting["policy.loss"] == "dpo"]
  write_plots(Results(rows, {}), tmp_path)
  assert "adversarial" in (tmp_path / "utility.svg").read_text()
  assert {file.stem for file in tmp_path.glob("*.svg")} == set(FIGURES)


@pytest.mark.parametrize("control", [golden_once, reward_size])
def test_a_control_differs_from_the_demo_in_its_reward_model_alone(control):
  theirs, ours = demo.get_config(), control.get_config()
  assert ours.testing_reward.training == theirs.reward.base
  ours.testing_reward.training = theirs.testing_reward.training
  ours.reward.base.epochs, ours.reward.mode = theirs.reward.base.epochs, theirs.reward.mode
  assert ours.to_dict() == theirs.to_dict()
