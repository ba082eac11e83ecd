"""What every test runs under."""

import atexit
import importlib
import importlib.metadata
import os
import shutil
import tempfile

import pytest
from jaxtyping import install_import_hook

# Array annotations are checked at run time; installed before any test imports the package.
install_import_hook("apo_jax", "beartype.beartype")

# Compiling takes most of the tests' time. XLA's optimisations, its newer code generator of fused
# operations and the splitting of a program into modules for several threads cost more of it than
# they save on models this small, and what one process compiled, the next reads from a cache.
FAST = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
# XLA ends the process where it does not know a flag, as newer versions do not know this one.
if importlib.metadata.version("jaxlib").startswith("0.10."):
  FAST += " --xla_cpu_use_fusion_emitters=false"
# They are for CPUs: on a GPU (tests/gpu) kernels are to be those of a user.
ON_CPU = os.environ.get("JAX_PLATFORMS", "cpu") in ("", "cpu")
if ON_CPU and FAST not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FAST}"
# What the processes of one run of the tests share: whole runs, and what is compiled.
if "APO_JAX_TESTS_FOLDER" not in os.environ:
  os.environ["APO_JAX_TESTS_FOLDER"] = tempfile.mkdtemp(prefix="apo_jax_tests_")
  atexit.register(shutil.rmtree, os.environ["APO_JAX_TESTS_FOLDER"], ignore_errors=True)
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR", os.path.join(os.environ["APO_JAX_TESTS_FOLDER"], "compiled")
)
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it says at import that it has no PyTorch
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# While the hook runs a module of the package, Python looks for the bytecode of all that this
# imports under the hook's name, and at first finds none. What was imported before is spared that.
IMPORTED_FIRST = (
  "beartype.door",
  "beartype.vale",
  "flax.nnx",
  "grain",
  "jax.experimental.mesh_utils",
  "matplotlib.backends.backend_agg",
  "matplotlib.figure",
  "ml_collections",
  "optax",
  "orbax.checkpoint",
  "pyarrow.parquet",
  "rich.live",
  "rich.progress",
  "tokenizers.implementations",
  "transformers.tokenization_utils_tokenizers",
)

# Files with a test that takes minutes by itself: they begin first, or one process ends alone.
LONG_FILES = ("test_multi_device", "test_processes", "test_checkpoint_game", "test_game")


def pytest_configure(config: pytest.Config) -> None:
  """Imports them where tests will run: not in the process that hands them out to others."""
  if not config.getoption("numprocesses", None):
    for name in IMPORTED_FIRST:
      importlib.import_module(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Moves the long files to the front."""
  items.sort(key=lambda item: item.path.stem not in LONG_FILES)
