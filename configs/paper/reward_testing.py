"""The testing reward model: all human preferences, of both players' sides. It judges every policy.

    python -m apo_jax.main --config=configs/paper/reward_testing.py       # LLaMA-7B on HH
    python -m apo_jax.main --config=configs/paper/reward_testing.py:toy   # embedded world

Its `testing_accuracy` stands in round 0's evaluation.json; the game's reward model is not trained
here.
"""

import runpy
from pathlib import Path

import ml_collections

_START = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]


def get_config(scale: str = "") -> ml_collections.ConfigDict:
  """Returns the game that all experiments share with what differs here."""
  config = _START(__file__, scale)
  config.rounds = 0
  config.testing_reward.training = config.reward.base.copy_and_resolve_references()
  config.reward.base.epochs = 0
  return config
