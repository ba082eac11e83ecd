"""GRM (arXiv 2406.10216): the reward model goes on speaking.

python -m apo_jax.main --config=configs/methods/grm.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.reward.terms = ("grm",)
  return config
