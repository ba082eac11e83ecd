"""RSO (arXiv 2309.06657): the hinge loss on samples that rejection sampling keeps.

python -m apo_jax.main --config=configs/methods/rso.py
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.policy.loss = "hinge"
  config.policy.selections = ("rso",)
  config.policy.rso.number = 4
  config.sampling.training.num_samples = 8
  return config
