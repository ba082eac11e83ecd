"""Relative PO (arXiv 2402.10958), its weights as large as the batch.

python -m apo_jax.main --config=configs/methods/relative_po.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "relative_po"
  config.policy.relative_po.weights = "times_queries"
  return config
