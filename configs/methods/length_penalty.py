"""A price for every token of a sample.

python -m apo_jax.main --config=configs/methods/length_penalty.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.shapings = ("length_penalty",)
  # Rewards of the demo's samples differ by one or two, their lengths by five to ten tokens.
  config.policy.length_penalty.coefficient = 0.02
  return config
