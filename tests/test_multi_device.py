"""Runs tests/multi_device in a process with 8 virtual devices."""

import os
import re
import subprocess
import sys

import pytest

from tests import tiny


@pytest.mark.parametrize(
  ("marked", "least"), [("not slow", 8), pytest.param("slow", 6, marks=pytest.mark.slow)]
)
def test_multi_device_tests_pass_on_8_devices(marked, least):
  flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
  options = ["-n0", "-p", "no:cacheprovider", "-m", marked]
  result = subprocess.run(
    [sys.executable, "-m", "pytest", "tests/multi_device", *options],
    cwd=tiny.ROOT,
    env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stdout + result.stderr
  assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= least
