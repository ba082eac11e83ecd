"""Sequential PO (arXiv 2405.12739).

python -m apo_jax.main --config=configs/methods/sequential_po.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "sequential_po"
  return config
