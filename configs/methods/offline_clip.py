"""SPAG's clipped offline objective (arXiv 2404.10642).

python -m apo_jax.main --config=configs/methods/offline_clip.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "offline_clip"
  return config
