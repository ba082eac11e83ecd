"""PAR (arXiv 2502.18770), under a loss that reads how large rewards are.

python -m apo_jax.main --config=configs/methods/par.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "dno"
  config.policy.shapings = ("par",)
  return config
