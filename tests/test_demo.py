"""What the README promises of the demo, played at full size. Slow: `pytest -m slow`."""

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
def shared(tmp_path_factory) -> Path:
  """What all losses have in common, up to the first round's reward model."""
  return tmp_path_factory.mktemp("demo")


@pytest.mark.parametrize("loss", ["rjs", "rrhf", "dpo"])
def test_true_utility_rises_by_a_tenth_in_one_round(shared, tmp_path, loss):
  options = f"--share={shared}", "--config.rounds=1", f"--config.policy.loss={loss}"
  start, end = play(tmp_path / "run", *options)
  assert end >= start + 0.10
