"""A price for samples that ran into the limit, as TRL's online trainers have it.

python -m apo_jax.main --config=configs/methods/missing_end.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.shapings = ("missing_end",)
  return config
