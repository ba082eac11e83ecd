"""The examples, run as a reader would."""

import re
import subprocess
import sys

import pytest

from tests import tiny


@pytest.mark.slow
def test_the_game_on_one_page_improves_the_policy():
  path = tiny.ROOT / "examples" / "game.py"
  result = subprocess.run(
    [sys.executable, path],
    cwd=tiny.ROOT,
    env=tiny.users_environment(),
    capture_output=True,
    text=True,
    check=True,
  )
  before, after = map(
    float, re.search(r"True utility: (\S+) before .*, (\S+) after", result.stdout).groups()
  )
  assert after >= before + 0.05, result.stdout
  assert len(path.read_text().splitlines()) <= 150, "it is to be read on one page"
