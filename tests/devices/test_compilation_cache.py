"""Compiled programs are kept in the run directory, or where a flag says, and found again."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.devices.compilation_cache import use_compilation_cache
from apo_jax.logs.files import read_json
from apo_jax.logs.run_directory import RunDirectory
from tests import tiny


@pytest.fixture
def setting():
  """The directory that JAX is told of, which is put back afterwards."""
  before = jax.config.jax_compilation_cache_dir
  yield lambda: jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", before)


def test_the_flag_goes_before_jaxs_own_setting_and_that_before_the_run(setting, tmp_path):
  use_compilation_cache(str(tmp_path / "given"), tmp_path / "run")
  assert setting() == str(tmp_path / "given")
  use_compilation_cache(None, tmp_path / "run")
  assert setting() == str(tmp_path / "given")
  use_compilation_cache("", tmp_path / "run")
  assert setting() is None
  use_compilation_cache(None, tmp_path / "run")
  assert setting() == str(tmp_path / "run")
  assert not (tmp_path / "run").exists()  # which its owner is checked of first
  use_compilation_cache("gs://bucket/cache", tmp_path / "run")
  assert setting() == "gs://bucket/cache"


def test_a_place_that_cannot_be_used_is_named(setting, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ConfigError, match=r"^--compilation_cache is '.*/file', which cannot be used"):
    use_compilation_cache(str(tmp_path / "file"), tmp_path / "run")


def run(*flags: str) -> subprocess.CompletedProcess:
  """The command with no cache but its own; JAX says what it finds there."""
  kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
  result = subprocess.run(
    [sys.executable, "-m", "apo_jax.main", *flags],
    cwd=tiny.ROOT,
    env={**kept, "JAX_DEBUG_LOG_MODULES": "jax._src.compiler"},
    capture_output=True,
    text=True,
    timeout=300,
  )
  return result


def found(result: subprocess.CompletedProcess) -> set[str]:
  """The entries that a run took from the cache."""
  pattern = r"Persistent compilation cache hit for '.*' with key '(.*)'"
  return {f"{key}-cache" for key in re.findall(pattern, result.stderr)}


def cached(run_dir: Path) -> list[Path]:
  return list(RunDirectory(run_dir).compilation_cache.glob("*-cache"))


def entries(run_dir: Path) -> dict[str, int]:
  """The cache's files and when they were written."""
  return {path.name: path.stat().st_mtime_ns for path in cached(run_dir)}


@pytest.mark.slow
def test_the_same_command_in_the_same_directory_compiles_from_the_cache(tmp_path):
  run_dir = tmp_path / "run"
  shorter = {"reward__base__epochs": 0, "evaluation__num_queries": 4}
  flags = [*tiny.flags(rounds=0, **shorter), f"--run_dir={run_dir}"]
  first = run(*flags)
  assert first.returncode == 0, first.stderr
  written = entries(run_dir)
  assert len(written) > 10
  evaluation = read_json(run_dir / "rounds/00/evaluation.json")

  # Played again from its start; and as a kill may leave it, one program is only half there.
  shutil.rmtree(run_dir / "rounds")
  shutil.rmtree(run_dir / "checkpoints")
  broken = max(cached(run_dir), key=lambda path: path.stat().st_size)
  broken.write_bytes(broken.read_bytes()[:1000])
  written = entries(run_dir)
  second = run(*flags)
  assert second.returncode == 0, second.stderr
  assert entries(run_dir) == written
  assert found(second) == written.keys() - {broken.name}
  assert read_json(run_dir / "rounds/00/evaluation.json") == evaluation


@pytest.mark.slow
def test_a_refused_command_leaves_no_cache(tmp_path):
  result = run(*tiny.flags(mesh__tensor=3), f"--run_dir={tmp_path / 'run'}")
  assert result.returncode == 2
  assert not (tmp_path / "run").exists()
