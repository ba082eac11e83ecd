"""Runs tests/multi_device in a process with 8 virtual devices."""

import os
import re
import subprocess
import sys

from tests import tiny


def test_multi_device_tests_pass_on_8_devices():
  flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
  result = subprocess.run(
    [sys.executable, "-m", "pytest", "tests/multi_device", "-n0", "-p", "no:cacheprovider"],
    cwd=tiny.ROOT,
    env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stdout + result.stderr
  assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 8
