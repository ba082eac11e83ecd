"""The tiny game played by the command line, once for all tests that compare another run with it."""

import os
import subprocess
import sys
from pathlib import Path

import filelock

from tests import tiny

FLAGS = tiny.flags(rounds=1)


def played() -> Path:
  """The directory of a whole run of `FLAGS`; the first process of the tests that asks plays it."""
  folder = Path(os.environ["APO_JAX_TESTS_FOLDER"])
  run_dir, finished = folder / "whole", folder / "whole.finished"
  with filelock.FileLock(folder / "whole.lock"):
    if not finished.exists():
      command = [sys.executable, "-m", "apo_jax.main", *FLAGS, f"--run_dir={run_dir}"]
      result = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, timeout=600)
      assert result.returncode == 0, result.stdout + result.stderr
      finished.touch()
  return run_dir
