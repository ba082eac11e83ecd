"""SPIN (arXiv 2401.01335): golden responses against samples, without rewards.

python -m apo_jax.main --config=configs/methods/spin.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "spin"
  return config
