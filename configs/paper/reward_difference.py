"""The APO reward model by the difference of rewards, the objective before it is relaxed.

    python -m apo_jax.main --config=configs/paper/reward_difference.py       # LLaMA-7B on HH
    python -m apo_jax.main --config=configs/paper/reward_difference.py:toy   # embedded world

The golden term alone changes; preferences keep the ranking loss.
"""

import runpy
from pathlib import Path

import ml_collections

_START = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]


def get_config(scale: str = "") -> ml_collections.ConfigDict:
  """Returns the game that all experiments share with what differs here."""
  config = _START(__file__, scale)
  config.reward.apo.kind = "difference"
  return config
