"""NDCG by NeuralSort (arXiv 2410.04346).

python -m apo_jax.main --config=configs/methods/ndcg_neuralsort.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "ndcg_neuralsort"
  return config
