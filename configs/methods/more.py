"""MORE (arXiv 2312.07401): the reward step's two terms weighed by their head gradients.

python -m apo_jax.main --config=configs/methods/more.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.reward.weighting = "min_norm"
  return config
