"""The APO reward model, each round from the base: golden responses against samples.

    python -m apo_jax.main --config=configs/paper/reward_apo_base.py       # LLaMA-7B on HH
    python -m apo_jax.main --config=configs/paper/reward_apo_base.py:toy   # embedded world

Also the row of four samples, of the ranking loss and of golden responses by a stronger model.
"""

import runpy
from pathlib import Path

import ml_collections

_START = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]


def get_config(scale: str = "") -> ml_collections.ConfigDict:
  """Returns the game that all experiments share with what differs here."""
  config = _START(__file__, scale)
  config.reward.start = "base"
  return config
