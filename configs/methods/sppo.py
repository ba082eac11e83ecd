"""SPPO (arXiv 2405.00675), win rates as targets; the paper's beta asks for 500 nats.

python -m apo_jax.main --config=configs/methods/sppo.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "sppo"
  config.policy.sppo.beta = 0.1
  return config
