"""Numbers and differences of written runs, against what they were written with."""

import csv
import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from apo_jax.compare.comparison import compare
from apo_jax.compare.curves import training_curves
from apo_jax.compare.files import write_csv
from apo_jax.compare.settings import judge_fields
from apo_jax.compare.statistics import holm
from apo_jax.objectives import DPO, RejectionSampling
from tests.compare.written import UPDATES, config, write_grid, write_run

RJS, UTILITY = "policy.loss=rjs", "true_utility"


def test_means_over_seeds(tmp_path):
  utilities = [
    write_run(tmp_path / f"{seed}", config(seed=seed))[1].queries.estimates[UTILITY].value
    for seed in range(2)
  ]
  comparison = compare([tmp_path])
  one = comparison.means["the only setting", 1, UTILITY]
  assert one.value == pytest.approx(sum(utilities) / 2)
  assert one.standard_error == pytest.approx(abs(utilities[0] - utilities[1]) / 2)
  assert (one.over, one.count, comparison.num_tests) == ("seeds", 2, 0)
  assert not comparison.others and not comparison.differences


def test_one_seed_has_the_error_over_its_queries(tmp_path):
  (_, numbers) = write_run(tmp_path / "a", config())
  comparison = compare([tmp_path])
  utility = numbers.queries.estimates[UTILITY]
  one = comparison.means["the only setting", 1, UTILITY]
  assert one == pytest.approx((utility.value, utility.standard_error, "test queries", 1))
  of_preferences = comparison.means["the only setting", 1, "testing_accuracy"]
  assert of_preferences.over == "test preferences"
  plain = comparison.means["the only setting", 1, "plain"]
  assert plain.value == 1.5 and math.isnan(plain.standard_error)


def test_differences_are_paired_by_seed(tmp_path):
  write_grid(tmp_path, seeds=3)  # the seeds differ in utility by far more than by their gains
  comparison = compare([tmp_path])
  assert (comparison.baseline.name, comparison.round) == ("policy.loss=dpo", 1)
  found = comparison.differences[RJS, 1, UTILITY]
  assert [one.value for one in found.by_seed.values()] == pytest.approx([1.0, 2.0, 3.0])
  # Every query gains the same, so paired by query there is no error within a seed.
  assert found.by_seed[0].standard_error == pytest.approx(0, abs=1e-12)
  assert found.estimate.value == pytest.approx(2.0)
  assert found.estimate.standard_error == pytest.approx(1 / math.sqrt(3))
  assert found.test.t == pytest.approx(2 * math.sqrt(3))


def test_tests_are_counted_and_corrected_together(tmp_path):
  write_grid(tmp_path, seeds=3)
  comparison = compare([tmp_path])
  tested = {
    name: one for (_, _, name), one in comparison.differences.items() if one.test is not None
  }
  # Rewards and win rates are the same in both settings: without spread there is no test. "plain"
  # and "words" come from the runs' own evaluations, of which "words" is the same everywhere.
  assert set(tested) == {UTILITY, "plain"} and comparison.num_tests == 2
  p_values = [stats.ttest_1samp([1.0, 2.0, 3.0], 0).pvalue] * 2
  assert [one.corrected_p for one in tested.values()] == pytest.approx(holm(p_values))
  assert all(place[1] == 1 for place, one in comparison.differences.items() if one.test)
  earlier = compare([tmp_path], round=0)
  assert earlier.round == 0 and math.isnan(earlier.differences[RJS, 1, UTILITY].corrected_p)


def test_two_seeds_in_common_make_no_test(tmp_path):
  write_grid(tmp_path, seeds=2)
  write_run(tmp_path / "more", config(DPO, seed=7))
  comparison = compare([tmp_path])
  found = comparison.differences[RJS, 1, UTILITY]
  assert found.estimate.count == 2 and comparison.num_tests == 0


def test_pairs_are_the_queries_that_both_have(tmp_path):
  (_, ours) = write_run(tmp_path / "a", config(DPO), num_queries=12)
  (_, theirs) = write_run(tmp_path / "b", config(RejectionSampling), num_queries=8)
  comparison = compare([tmp_path], baseline="rjs")
  assert comparison.common_queries == (8, 8)
  one, other = (each.queries.estimates[UTILITY].pseudo_values for each in (ours, theirs))
  paired = one[:8] - other
  (found,) = comparison.differences["policy.loss=dpo", 1, UTILITY].by_seed.values()
  assert found.value == pytest.approx(np.mean(paired))
  assert found.standard_error == pytest.approx(np.std(paired, ddof=1) / math.sqrt(8))
  assert comparison.differences["policy.loss=dpo", 1, UTILITY].estimate == found


def test_no_seed_in_common_leaves_the_difference_unknown(tmp_path):
  write_run(tmp_path / "a", config(DPO, seed=0))
  write_run(tmp_path / "b", config(RejectionSampling, seed=1))
  comparison = compare([tmp_path])
  assert comparison.common_queries is None
  assert not comparison.differences[RJS, 1, UTILITY].by_seed


def test_the_last_round_that_all_have_finished_is_taken(tmp_path):
  write_run(tmp_path / "a", config(DPO, rounds=2))
  write_run(tmp_path / "b", config(RejectionSampling, rounds=1))
  comparison = compare([tmp_path])
  assert (comparison.round, comparison.rounds) == (1, [0, 1, 2])
  assert comparison.means[RJS, 2, UTILITY].count == 0


def test_other_judges_are_told(tmp_path):
  write_grid(tmp_path, seeds=1)
  assert judge_fields(compare([tmp_path]).settings) == []
  base = config(DPO)
  judge = dataclasses.replace(base.testing_reward, preferences="policy")
  write_run(tmp_path / "other", dataclasses.replace(base, testing_reward=judge))
  assert judge_fields(compare([tmp_path]).settings) == ["testing_reward.preferences"]


def test_training_curves_are_means_over_seeds_with_rounds_in_a_row(tmp_path):
  write_grid(tmp_path, seeds=2)
  curves = training_curves(compare([tmp_path]).settings)["policy"]
  assert not curves.by_rounds and curves.round_ends == [UPDATES]
  assert set(curves.metrics) == {"loss"}  # of "kl" nothing is known
  loss = curves.metrics["loss"][RJS]
  assert loss.x.tolist() == [1, 2, 3, 4, 5, 6]
  # Of seeds 0 and 1 with gains 1 and 2: 10 round + step + seed + gain.
  assert loss.values.tolist() == [3, 4, 5, 13, 14, 15]
  assert loss.errors == pytest.approx(np.ones(6)) and loss.counts == [2] * 6


def test_what_is_logged_once_a_round_is_drawn_over_rounds(tmp_path):
  write_run(tmp_path / "a", config(DPO))
  lines = [f'{{"round": {n}, "phase": "score", "step": 1, "reward": {n}.5}}\n' for n in (1, 2)]
  path = tmp_path / "a/metrics.jsonl"
  path.write_text(path.read_text() + "".join(lines))
  curves = training_curves(compare([tmp_path]).settings)["score"]
  (reward,) = curves.metrics["reward"].values()
  assert curves.by_rounds and reward.x.tolist() == [1, 2] and reward.values.tolist() == [1.5, 2.5]


def read(path):
  with open(path, newline="", encoding="utf-8") as file:
    return list(csv.DictReader(file))


def test_csv_files_hold_every_seed_and_the_mean(tmp_path):
  write_grid(tmp_path / "runs", seeds=3)
  comparison = compare([tmp_path / "runs"])
  training = training_curves(comparison.settings)
  write_csv(comparison, training, tmp_path / "out")
  numbers = read(tmp_path / "out/numbers.csv")
  assert {row["number"] for row in numbers} == set(comparison.numbers)
  rows = [
    row for row in numbers if (row["setting"], row["round"], row["number"]) == (RJS, "1", UTILITY)
  ]
  assert [row["seed"] for row in rows] == ["0", "1", "2", "mean"]
  assert [row["error_over"] for row in rows] == ["test queries"] * 3 + ["seeds"]
  values = [float(row["value"]) for row in rows]
  assert values[3] == pytest.approx(sum(values[:3]) / 3)
  differences = read(tmp_path / "out/differences.csv")
  *_, last = [row for row in differences if (row["round"], row["number"]) == ("1", UTILITY)]
  assert (last["seed"], last["baseline"], last["seeds"]) == ("mean", "policy.loss=dpo", "3")
  assert float(last["difference"]) == pytest.approx(2.0)
  assert float(last["p_holm"]) == pytest.approx(2 * float(last["p"]))
  metrics = read(tmp_path / "out/metrics.csv")
  assert len(metrics) == 2 * 2 * UPDATES
  before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
  write_csv(compare([tmp_path / "runs"]), training, tmp_path / "out")
  assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
