"""AdvPO (arXiv 2403.05171): rewards by the worst head that the data leaves possible.

python -m apo_jax.main --config=configs/methods/advpo.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.shapings = ("advpo",)
  return config
