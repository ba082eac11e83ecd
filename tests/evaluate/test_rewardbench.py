"""RewardBench's rows and scores, by hand."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.evaluate.rewardbench import SECTIONS, bench_scores, bench_section, read_bench


def row(number, subset="math-prm", **changes):
  return {
    "prompt": f"What is {number}?",
    "chosen": "One.",
    "chosen_model": "a",
    "rejected": "Two, surely.",
    "rejected_model": "b",
    "subset": subset,
    "id": number,
  } | changes


def write(path, rows):
  path.write_text("".join(json.dumps(one) + "\n" for one in rows))
  return str(path)


def test_mathematics_weighs_as_much_as_all_code():
  reasoning = SECTIONS["Reasoning"]
  assert reasoning["math-prm"] == sum(reasoning.values()) / 2
  subsets = np.array(["math-prm"] * 2 + ["hep-cpp"] * 2 + ["hep-go"] * 4)
  right = np.array([1, 0.5, 1, 0, 1, 1, 1, 1])
  found = bench_scores(subsets, right)
  # Without the other code subsets: 984 rows of mathematics to 164 of either.
  expected = (984 * 0.75 + 164 * 0.5 + 164 * 1.0) / (984 + 2 * 164)
  assert found["Reasoning"].value == pytest.approx(expected)
  assert found["hep-cpp"].value == 0.5 and found["hep-go"].value == 1.0
  assert found["total"].value == found["Reasoning"].value


def test_sections_are_weighted_by_rows_and_the_total_by_sections():
  subsets = np.array(["alpacaeval-easy", "mt-bench-med", "donotanswer", "mine"])
  found = bench_scores(subsets, np.array([1.0, 0.0, 0.5, 1.0]))
  assert found["Chat"].value == pytest.approx(100 / 140)
  assert found["Safety"].value == 0.5
  assert found["total"].value == pytest.approx((100 / 140 + 0.5) / 2)
  assert found["mine"].value == 1.0  # listed, and in no section
  assert list(found) == [
    "total", "Chat", "Safety", "alpacaeval-easy", "mt-bench-med", "donotanswer", "mine",
  ]  # fmt: skip


def test_the_error_of_a_subset_is_that_of_its_own_rows():
  rng = np.random.default_rng(0)
  right = (rng.random(400) < 0.7).astype(float)
  subsets = np.array(["math-prm"] * 100 + ["hep-cpp"] * 300)
  found = bench_scores(subsets, right)
  own = np.std(right[:100], ddof=1) / 10
  assert found["math-prm"].standard_error == pytest.approx(own, rel=0.02)
  assert np.isnan(bench_scores(np.array(["mine"]), np.ones(1))["mine"].standard_error)


def test_rows_are_read_as_they_are(tmp_path):
  conversation = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Three."}]
  rows = [row(1), row(2, "mine", chosen=conversation), row(3, rejected=" "), {"prompt": "x"}]
  bench = read_bench(write(tmp_path / "bench.jsonl", rows))
  assert [one.subset for one in bench.rows] == ["math-prm", "mine"]
  assert bench.rows[0].item.query == "\n\nHuman: What is 1?\n\nAssistant:"
  assert [one.text for one in bench.rows[1].item.answers] == [" Three.", " Two, surely."]
  assert bench.left_out == {"empty response": 1, "missing field": 1}
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row(1)]), tmp_path / "bench.parquet")
  assert read_bench(str(tmp_path / "bench.parquet")).rows == bench.rows[:1]


def test_the_section_says_what_is_not_the_benchmark_s(tmp_path):
  bench = read_bench(write(tmp_path / "bench.jsonl", [row(1), row(2, "mine"), row(3)]))
  rewards = [np.array([1.0, 0.0]), np.array([2.0, 2.0]), np.array([np.nan, np.nan])]
  section = bench_section("rewardbench", "a model", bench, rewards)
  assert section.measured.estimates["total"].value == 1.0
  assert section.measured.estimates["mine"].value == 0.5
  assert section.plain["unknown_subsets"] == ["mine"]
  assert "Left out: 1 too long for the model." in section.text()
  assert [one["right"] for one in section.items] == [1.0, 0.5]


@pytest.mark.parametrize("rows", [[{"chosen": "a", "rejected": "b"}], []])
def test_a_file_in_another_form_is_refused(tmp_path, rows):
  path = write(tmp_path / "bench.jsonl", rows)
  with pytest.raises(ConfigError, match=r"--rewardbench is .*prompt, chosen, rejected, subset"):
    read_bench(path)
  with pytest.raises(ConfigError, match=r"--rewardbench is 'nowhere\.jsonl'.*cannot be read"):
    read_bench("nowhere.jsonl")
