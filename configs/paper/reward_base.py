"""The base reward model: human preferences alone, before any game.

    python -m apo_jax.main --config=configs/paper/reward_base.py       # LLaMA-7B on HH
    python -m apo_jax.main --config=configs/paper/reward_base.py:toy   # embedded world

Its `reward_accuracy` and `reward_ece` stand in round 0's evaluation.json.
"""

import runpy
from pathlib import Path

import ml_collections

_START = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]


def get_config(scale: str = "") -> ml_collections.ConfigDict:
  """Returns the game that all experiments share with what differs here."""
  config = _START(__file__, scale)
  config.rounds = 0
  return config
