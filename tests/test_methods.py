"""A round with every method, by the command that a user types."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from apo_jax.logs.metrics import read_metrics
from benchmarks.compare_methods.methods import NEED_CHECKPOINT
from tests import checkpoints, tiny
from tests.config.test_methods import METHODS


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_round_by_the_command_line(name, tmp_path):
  changes = {}
  if name in NEED_CHECKPOINT:
    checkpoint = checkpoints.write(tmp_path / "checkpoint")
    changes = {"model.checkpoint": checkpoint, **checkpoints.ROOM}
  play(name, tmp_path, **changes)


@pytest.mark.slow
def test_more_weighs_subsets_of_preferences(tmp_path):
  play("more", tmp_path, data__subset_column="family")
  lines = [line for line in read_metrics(tmp_path / "run") if line["phase"] == "reward"]
  weights = [
    {name: value for name, value in line.items() if name.endswith("_weight")} for line in lines
  ]
  assert {"golden_weight", "preference_owner_weight"} <= set(weights[0])
  assert "preference_weight" not in weights[0]
  assert [sum(each.values()) for each in weights] == pytest.approx([1.0] * len(lines), rel=1e-4)


def play(name, tmp_path, **changes):
  """A round of a method's config with changed fields."""
  # All that comes before what a method changes is played once.
  shared = Path(os.environ["APO_JAX_TESTS_FOLDER"]) / "methods"
  judge = {f"testing_reward__shape__{field}": value for field, value in tiny.JUDGE.items()}
  overrides = judge | {
    "rounds": 1,
    "policy__training__learning_rate": 1e-3,
    "policy__training__warmup_steps": 0,
    **changes,
  }
  command = [sys.executable, "-m", "apo_jax.main", *tiny.flags(METHODS[name], **overrides)]
  command += [f"--run_dir={tmp_path / 'run'}", f"--share={shared}"]
  command += [f"--compilation_cache={shared / 'compiled'}"]
  result = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, timeout=1800)
  assert result.returncode == 0, result.stdout + result.stderr
  updates = [line for line in read_metrics(tmp_path / "run") if line["phase"] == "policy"]
  assert updates
  for line in updates:
    assert math.isfinite(line["loss"]) and math.isfinite(line["gradient_norm"])
  assert any(line["gradient_norm"] > 0 for line in updates)
