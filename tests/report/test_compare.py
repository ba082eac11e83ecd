"""Two runs, from their files alone."""

import math
import re

import numpy as np
import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.evaluation.record import evaluation_record, judgements_record
from apo_jax.evaluation.standard import standard_numbers
from apo_jax.logs.files import write_json
from apo_jax.report.__main__ import main
from apo_jax.report.compare import compare
from tests.evaluation.rounds import random_round


def make_run(run_dir, seed, rounds=(0, 1), num_queries=12):
  """A run directory with what the judgement of some rounds leaves; returns the last's numbers."""
  for round in rounds:
    numbers = standard_numbers(random_round(seed + round, num_queries), calibration_bins=4)
    place = run_dir / "rounds" / f"{round:02d}"
    write_json(place / "evaluation.json", evaluation_record(round, numbers, {"plain": 1.5}, {}))
    write_json(place / "judgements.json", judgements_record(numbers))
  return numbers


def row_of(text, name):
  (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
  return line.split()[1:]


def test_numbers_side_by_side_and_the_paired_difference(tmp_path):
  ours = make_run(tmp_path / "a", 0)
  theirs = make_run(tmp_path / "b", 10, num_queries=8)
  text = compare(tmp_path / "a", tmp_path / "b")
  assert "after round 1; B - A is over the 8 test queries and 8 test preferences" in text
  utility = row_of(text, "true_utility")
  one, other = (each.queries.estimates["true_utility"] for each in (ours, theirs))
  paired = other.pseudo_values - one.pseudo_values[:8]
  assert utility == [
    f"{one.value:.3f}",
    f"±{one.standard_error:.3f}",
    f"{other.value:.3f}",
    f"±{other.standard_error:.3f}",
    f"{np.mean(paired):+.3f}",
    f"±{np.std(paired, ddof=1) / math.sqrt(8):.3f}",
  ]
  assert row_of(text, "plain") == ["1.500", "1.500", "-"]
  assert len(row_of(text, "reward_ece")) == 6
  assert max(map(len, text.splitlines())) <= 100


def test_a_run_does_not_differ_from_itself(tmp_path, capsys):
  make_run(tmp_path / "a", 0)
  assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "a"), "--round=0"]) == 0
  text = capsys.readouterr().out
  assert "after round 0" in text
  assert row_of(text, "true_utility")[-2:] == ["+0.000", "±0.000"]


def test_what_cannot_be_compared_is_said(tmp_path, capsys):
  make_run(tmp_path / "a", 0)
  make_run(tmp_path / "b", 0, rounds=(2,))
  with pytest.raises(ConfigError, match="missing, which is no run's directory"):
    compare(tmp_path / "a", tmp_path / "missing")
  with pytest.raises(ConfigError, match=r"--round is 2, which .*a has not finished; it has 0, 1"):
    compare(tmp_path / "a", tmp_path / "b", 2)
  with pytest.raises(ConfigError, match="have finished no same round"):
    compare(tmp_path / "a", tmp_path / "b")
  make_run(tmp_path / "c", 0)
  path = tmp_path / "c/rounds/01/judgements.json"
  path.write_text(re.sub(r'"q(\d)', r'"other\1', path.read_text()))
  with pytest.raises(ConfigError, match="have no test query in common"):
    compare(tmp_path / "a", tmp_path / "c")
  path.unlink()
  assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "c")]) == 2
  assert "round 1 has no judgements.json" in capsys.readouterr().err
