"""The demo's game with as little to compute as there can be: what is left of a round is the rest.

A model of one layer, and in every round one update of either player.
"""

import runpy
from pathlib import Path

import ml_collections

_DEMO = Path(__file__).resolve().parent.parent / "configs" / "demo.py"

_OVERRIDES = {
  "model.shape.layers": 1,
  "model.shape.embed_dim": 8,
  "model.shape.heads": 1,
  "model.shape.kv_heads": 1,
  "model.shape.head_dim": 8,
  "model.shape.mlp_dim": 16,
  "tokenizer.vocab_size": 300,
  "data.num_demonstrations": 64,
  "data.num_preferences": 16,
  "data.num_golden": 8,
  "data.num_queries": 8,
  "data.num_test": 8,
  "data.query_length": 64,
  "data.query_buckets": (64,),
  "data.row_length": 128,
  "supervised.epochs": 1,
  "supervised.batch_size": 64,
  "reward.base.epochs": 1,
  "reward.base.batch_size": 16,
  "reward.training.batch_size": 8,
  "reward.preference_batch_size": 8,
  "policy.training.batch_size": 8,
  "sampling.batch_size": 8,
  "sampling.training.num_samples": 2,
  "sampling.training.max_new_tokens": 8,
  "sampling.evaluation.max_new_tokens": 8,
  "evaluation.num_queries": 8,
  "evaluation.batch_size": 8,
  "logging.every_steps": 1,
}


def get_config() -> ml_collections.ConfigDict:
  """Returns the demo's config made tiny, the judge a twin of the game's reward model."""
  config = runpy.run_path(str(_DEMO))["get_config"]()
  config.testing_reward.shape = None
  config.update_from_flattened_dict(_OVERRIDES)
  return config
