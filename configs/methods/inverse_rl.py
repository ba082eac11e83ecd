"""Inverse RL's pairs (arXiv 2405.15624): the supervised start's samples against earlier ones.

What the demonstrations have changed is what the reward model is to learn, so that there has to be a
policy before them. Any checkpoint is one; here that of a game which ends behind a weaker start:

    python -m apo_jax.main --config=configs/demo.py --config.rounds=0 --config.supervised.epochs=1 \
      --run_dir=runs/initial
    python -m apo_jax.export --run=runs/initial --output=runs/initial_policy
    python -m apo_jax.main --config=configs/methods/inverse_rl.py \
      --config.model.checkpoint=runs/initial_policy
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The demo with this method, but for the checkpoint."""
  config = runpy.run_path(str(Path(__file__).with_name("common.py")))["start"]()
  config.reward.contrast = "supervised_vs_initial"
  return config
