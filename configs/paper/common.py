"""What all experiments of the paper (arXiv 2311.08045) share, in both scales. No config by itself.

Each file beside this one has a `get_config(scale)`: "" plays on Helpful & Harmless from LLaMA-7B,
as configs/llama_7b_hh.py; "toy" the same game on the embedded world, as configs/demo.py. README.md
says which experiment is compared with which.
"""

import runpy
from pathlib import Path

import ml_collections

from apo_jax.config.base import section
from apo_jax.config.schema import SupervisedConfig

_CONFIGS = Path(__file__).resolve().parent.parent


def start(file: str, scale: str) -> ml_collections.ConfigDict:
  """The config that an experiment changes.

  Args:
    file: the experiment's.
    scale: what stands behind the colon of --config.

  Raises:
    ValueError: there is no such scale.
  """
  if scale not in ("", "toy"):
    raise ValueError(
      f"--config=configs/paper/{Path(file).name}:{scale}: behind the colon stands {scale!r}; it"
      " must be toy, for the embedded world, or the colon left out, for Helpful & Harmless."
    )
  name = "demo" if scale else "llama_7b_hh"
  config = runpy.run_path(str(_CONFIGS / f"{name}.py"))["get_config"]()
  if not scale:
    _helpful_and_harmless(config)
  # What one experiment is about changes it; else all are one game.
  config.rounds = 3
  config.policy.loss = "rjs"
  config.policy.start = "base"
  config.policy.reference = "initial"
  config.reward.start = "base"
  return config


def _helpful_and_harmless(config: ml_collections.ConfigDict) -> None:
  """The paper's data where it is on the hub; golden responses are a file that the user gives."""
  config.data.preferences = "hf://Anthropic/hh-rlhf?split=train"
  config.data.queries = "preferences"
  config.data.demonstrations = "hf://tatsu-lab/alpaca?split=train"
  config.data.golden = "data/hh/golden.jsonl"
  # How Alpaca-7B, the paper's first policy, was made of LLaMA-7B; beta2 as in all other trainings.
  config.supervised = section(
    SupervisedConfig(epochs=3, batch_size=128, learning_rate=2e-5, warmup_steps=36, beta2=0.999)
  )
