"""SimPO (arXiv 2405.14734), without a reference.

python -m apo_jax.main --config=configs/methods/simpo.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "simpo"
  return config
