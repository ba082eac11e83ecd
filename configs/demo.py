"""The whole game in small, on data that comes with the package: no download, a CPU is enough.

    python -m apo_jax.main --config=configs/demo.py

Any field can be overridden on the command line, and so swept over:

    for loss in rjs rrhf dpo; do
      python -m apo_jax.main --config=configs/demo.py --config.policy.loss=$loss
    done
"""

import dataclasses

import ml_collections

from apo_jax.config.base import base_config, section
from apo_jax.config.schema import SamplerConfig, ShapeConfig, SupervisedConfig, TrainingConfig


def get_config() -> ml_collections.ConfigDict:
  """Returns the base (apo_jax/config/schema.py) with what differs here."""
  config = base_config()
  shape = ShapeConfig(layers=2, embed_dim=96, heads=4, kv_heads=2, head_dim=24, mlp_dim=256)
  config.model.shape = section(shape)
  config.model.compute_dtype = "float32"
  config.tokenizer.vocab_size = 512

  config.data.source = "embedded"
  config.data.num_demonstrations = 8000
  config.data.num_preferences = 1500
  config.data.num_golden = 512
  config.data.num_queries = 1024
  config.data.num_test = 256
  config.data.on_bad_row = "error"
  config.data.query_length = 30
  config.data.query_buckets = (30,)
  config.data.row_length = 54

  def training(**differences: int | float) -> ml_collections.ConfigDict:
    return section(TrainingConfig(**differences))

  config.supervised = section(SupervisedConfig(epochs=2, learning_rate=4e-3, warmup_steps=20))
  config.reward.base = training(epochs=2, learning_rate=1e-3, warmup_steps=10)
  config.reward.training = training(batch_size=32, learning_rate=1e-3, warmup_steps=4)
  config.reward.apo.golden_coefficient = 1.0
  config.reward.preference_batch_size = 32
  config.policy.training = training(batch_size=32, learning_rate=2e-4, warmup_steps=4)
  # The ranking's gradient is then a third of the imitation's; with the default, 100, it is all.
  config.policy.rrhf.ranking_coefficient = 0.1
  # A judge that is no twin of the reward model in the game.
  judge = ShapeConfig(layers=1, embed_dim=64, heads=4, kv_heads=2, head_dim=16, mlp_dim=160)
  config.testing_reward.shape = section(judge)

  sampler = SamplerConfig(max_new_tokens=23, stop=("\n\nHuman",))
  config.sampling.evaluation = section(sampler)
  config.sampling.training = section(dataclasses.replace(sampler, num_samples=4))
  config.sampling.cache_dtype = "float32"
  config.sampling.gather_weights = False
  config.evaluation.num_queries = 256
  config.evaluation.batch_size = 128
  return config
