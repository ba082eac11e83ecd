"""A round with every policy loss, by the command that a user types."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from apo_jax.logs.files import read_json
from apo_jax.logs.metrics import read_metrics
from apo_jax.objectives import PolicyLoss
from tests import tiny

# What a test adds for itself is none of the package's.
NAMES = sorted(
  name for name, loss in PolicyLoss.known.items() if loss.__module__.startswith("apo_jax.")
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_round_by_the_command_line(name, tmp_path):
  # All that comes before the policy's step is played once.
  shared = Path(os.environ["APO_JAX_TESTS_FOLDER"]) / "losses"
  flags = tiny.flags(rounds=1, policy__loss=name, policy__training__learning_rate=1e-3)
  command = [sys.executable, "-m", "apo_jax.main", *flags, f"--run_dir={tmp_path / 'run'}"]
  command += [f"--share={shared}", f"--compilation_cache={shared / 'compiled'}"]
  result = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, timeout=1800)
  assert result.returncode == 0, result.stdout + result.stderr
  assert read_json(tmp_path / "run" / "config.json")["policy"]["loss"] == name
  updates = [line for line in read_metrics(tmp_path / "run") if line["phase"] == "policy"]
  assert updates
  for line in updates:
    assert math.isfinite(line["loss"]) and math.isfinite(line["gradient_norm"])
  assert any(line["gradient_norm"] > 0 for line in updates)
