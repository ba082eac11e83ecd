"""Rewards less their uncertainty, which AdvPO is compared with.

python -m apo_jax.main --config=configs/methods/uncertainty_penalty.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.shapings = ("uncertainty_penalty",)
  return config
