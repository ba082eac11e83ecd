"""The APO reward model, each round from the last round's: the paper's -seq variant.

python -m apo_jax.main --config=configs/paper/reward_apo_sequential.py       # LLaMA-7B on HH
python -m apo_jax.main --config=configs/paper/reward_apo_sequential.py:toy   # embedded world
"""

import runpy
from pathlib import Path

import ml_collections

_START = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]


def get_config(scale: str = "") -> ml_collections.ConfigDict:
  """Returns the game that all experiments share with what differs here."""
  config = _START(__file__, scale)
  config.reward.start = "previous"
  return config
