"""What the README promises of the demo, played at full size. Slow: `pytest -m slow`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apo_jax.logs.files import read_json
from tests import tiny

pytestmark = pytest.mark.slow


def play(run_dir: Path, *overrides: str) -> list[float]:
  """Plays configs/demo.py and returns the true utility after each round, the start first."""
  command = ["-m", "apo_jax.main", "--config=configs/demo.py", f"--run_dir={run_dir}", *overrides]
  subprocess.run(
    [sys.executable, *command], cwd=tiny.ROOT, env=tiny.users_environment(), check=True
  )
  return [
    read_json(path)["true_utility"] for path in sorted(run_dir.glob("rounds/*/evaluation.json"))
  ]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
  """The run directory after round 0, which all losses share."""
  run_dir = tmp_path_factory.mktemp("demo") / "start"
  play(run_dir, "--config.rounds=0")
  return run_dir


@pytest.mark.parametrize("loss", ["rjs", "rrhf", "dpo"])
def test_true_utility_rises_by_a_tenth_within_three_rounds(start, tmp_path, loss):
  run_dir = tmp_path / "run"
  # All but the config, which names another loss: nothing before round 1 depends on it.
  shutil.copytree(start, run_dir, ignore=shutil.ignore_patterns("config.json"))
  utilities = play(run_dir, f"--config.policy.loss={loss}")
  assert len(utilities) == 4
  assert max(utilities[1:]) >= utilities[0] + 0.10, utilities
