"""What every test runs under."""

import atexit
import os
import shutil
import tempfile

import pytest
from jaxtyping import install_import_hook

# Array annotations are checked at run time; installed before any test imports the package.
install_import_hook("apo_jax", "beartype.beartype")

# Compiling takes most of the tests' time. XLA's optimisations cost more of it than they save on
# models this small, and what one process compiled, the next reads from a cache.
FAST = "--xla_backend_optimization_level=0"
if FAST not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FAST}"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="apo_jax_tests_")
  atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Files with a test that takes minutes by itself: they begin first, or one process ends alone.
LONG_FILES = ("test_multi_device", "test_processes", "test_checkpoint_game", "test_game")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Moves the long files to the front."""
  items.sort(key=lambda item: item.path.stem not in LONG_FILES)
