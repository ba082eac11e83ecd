"""KTO (arXiv 2402.01306), samples above their query's mean against those below.

python -m apo_jax.main --config=configs/methods/kto.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "kto"
  return config
