"""Golden responses from the preferences' chosen ones, in place of a stronger model's.

    python -m apo_jax.main --config=configs/paper/golden_chosen.py       # LLaMA-7B on HH
    python -m apo_jax.main --config=configs/paper/golden_chosen.py:toy   # embedded world

No other data than preferences and a checkpoint is needed.
"""

import runpy
from pathlib import Path

import ml_collections

_START = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]


def get_config(scale: str = "") -> ml_collections.ConfigDict:
  """Returns the game that all experiments share with what differs here."""
  config = _START(__file__, scale)
  config.data.golden = "chosen"
  return config
