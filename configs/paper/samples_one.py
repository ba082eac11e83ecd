"""One sample a query in place of four.

    python -m apo_jax.main --config=configs/paper/samples_one.py       # LLaMA-7B on HH
    python -m apo_jax.main --config=configs/paper/samples_one.py:toy   # embedded world

The policy's queries get one too, of which rejection sampling imitates what it gets.
"""

import runpy
from pathlib import Path

import ml_collections

_START = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]


def get_config(scale: str = "") -> ml_collections.ConfigDict:
  """Returns the game that all experiments share with what differs here."""
  config = _START(__file__, scale)
  config.sampling.training.num_samples = 1
  return config
