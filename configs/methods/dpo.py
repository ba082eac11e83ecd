"""DPO (arXiv 2305.18290) on the best and the worst sample.

python -m apo_jax.main --config=configs/methods/dpo.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "dpo"
  return config
