"""DNO-Prct (arXiv 2404.03715): pairs of a large margin, and earlier rounds' again.

python -m apo_jax.main --config=configs/methods/dno_prct.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "dno_prct"
  config.policy.dno_prct.least_win_rate = 0.6
  config.policy.dno_prct.least_margin = 0.2
  config.policy.replay = (0.3, 0.15)
  return config
