"""The policy by DPO, against the base reward model, which stays as it is.

python -m apo_jax.main --config=configs/paper/policy_dpo.py       # LLaMA-7B on HH
python -m apo_jax.main --config=configs/paper/policy_dpo.py:toy   # embedded world
"""

import runpy
from pathlib import Path

import ml_collections

_START = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]


def get_config(scale: str = "") -> ml_collections.ConfigDict:
  """Returns the game that all experiments share with what differs here."""
  config = _START(__file__, scale)
  config.policy.loss = "dpo"
  config.reward.mode = "fixed"
  return config
