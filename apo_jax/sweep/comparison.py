"""The end of a sweep: its runs side by side."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

COMPARISON = "comparison"
_PAGE = "apo_jax.compare.page"


def compare_runs(run_dirs: Sequence[Path], output: Path) -> Path | None:
  """Writes the page that compares finished runs; returns its place, None without such a part."""
  if importlib.util.find_spec("apo_jax.compare") is None:
    return None
  importlib.import_module(_PAGE).write_comparison(run_dirs, output)
  return output
