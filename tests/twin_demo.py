"""The demo with a judge that is a twin of the game's reward model: a model less to compile."""

import runpy
from pathlib import Path

import ml_collections

_DEMO = Path(__file__).resolve().parent.parent / "configs" / "demo.py"


def get_config() -> ml_collections.ConfigDict:
  """Returns the demo's config, the judge's shape left out."""
  config = runpy.run_path(str(_DEMO))["get_config"]()
  config.testing_reward.shape = None
  return config
