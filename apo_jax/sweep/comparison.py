"""The end of a sweep: its runs side by side."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

COMPARISON = "comparison"
_PAGE = "apo_jax.compare.page"


def compare_runs(run_dirs: Sequence[Path], sweep_dir: Path) -> Path | None:
  """Compares finished runs; returns the page's path, None where that part is not there.

  Raises:
    ConfigError: the runs cannot be compared.
  """
  if importlib.util.find_spec("apo_jax.compare") is None:
    return None
  page = importlib.import_module(_PAGE)
  return page.write_comparison(run_dirs, sweep_dir / COMPARISON)
