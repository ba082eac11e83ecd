"""What all methods are compared on: the demo's game. No config by itself."""

import runpy
from pathlib import Path

import ml_collections

_CONFIGS = Path(__file__).resolve().parent.parent


def start() -> ml_collections.ConfigDict:
  """The config that a method changes: the demo's, whose rounds go on from the last one."""
  return runpy.run_path(str(_CONFIGS / "demo.py"))["get_config"]()
