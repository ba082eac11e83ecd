"""Contrastive rewards (arXiv 2403.07708), as KTO's labels.

python -m apo_jax.main --config=configs/methods/contrastive.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "kto"
  config.policy.kto.baseline = "zero"
  config.policy.shapings = ("contrastive",)
  return config
