"""SmolLM2-135M-Instruct with adapters on real Helpful & Harmless data: two short rounds.

    python -m apo_jax.main --config=configs/smollm2_hh.py        # a small part, for a CPU
    python -m apo_jax.main --config=configs/smollm2_hh.py:full   # all of it, for a TPU or GPU

The small part proves the machinery on real text and no more (docs/smollm2_hh.md has the record).
The policies are judged on the test side's golden queries alone, a tenth of all.

You provide, under data/hh/ (or wherever `--config.data.preferences=...` says)
- preferences.jsonl.gz: HH-RLHF's two columns, `chosen` and `rejected`;
- golden.jsonl.gz: queries with a golden response, `query_id`, `query`, `golden`;
- queries.jsonl.gz: queries to answer, `query_id`, `query`.
"""

import ml_collections

from apo_jax.config.base import base_config, section
from apo_jax.config.schema import LoraConfig, SamplerConfig, TrainingConfig


def get_config(size: str = "small") -> ml_collections.ConfigDict:
  """Returns the base (apo_jax/config/schema.py) with what differs here; `size` small or full."""
  if size not in ("small", "full"):
    raise ValueError(f"--config=configs/smollm2_hh.py:{size}: it must be small or full.")
  config = base_config()
  config.rounds = 2
  config.model.checkpoint = "HuggingFaceTB/SmolLM2-135M-Instruct"
  config.data.preferences = "data/hh/preferences.jsonl.gz"
  config.data.golden = "data/hh/golden.jsonl.gz"
  config.data.queries = "data/hh/queries.jsonl.gz"
  config.supervised.epochs = 0  # the checkpoint follows instructions already
  config.policy.lora = section(LoraConfig(rank=16, alpha=32.0))
  config.reward.lora = section(LoraConfig(rank=16, alpha=32.0))
  config.reward.pooling = "eos"
  config.reward.apo.golden_coefficient = 1.0
  if size == "full":
    config.data.query_buckets = (64, 128, 255)
    config.data.row_buckets = (128, 256)
    config.reward.lora.dropout = 0.05
    batch_size, base_rate, reward_rate, policy_rate, new_tokens = 32, 2e-4, 1e-4, 2e-4, 256
  else:
    # Few updates: small batches and large steps.
    batch_size, base_rate, reward_rate, policy_rate, new_tokens = 4, 5e-4, 3e-4, 3e-4, 160
    config.model.remat = "dots"
    config.model.compute_dtype = config.sampling.cache_dtype = "float32"
    config.data.num_preferences, config.data.num_test = 48, 96
    config.data.num_golden = config.data.num_queries = 32
    config.data.query_length = 127
    config.data.query_buckets = (64, 127)
    config.data.row_length = 320  # golden responses have 169 tokens in the mean, 279 at the 90th %
    config.data.row_buckets = (128, 192, 256)
    config.sampling.batch_size = 24
    config.evaluation.num_queries = 96
    config.evaluation.batch_size = 32
    config.logging.every_steps = 1

  def training(learning_rate: float, warmup_steps: int) -> ml_collections.ConfigDict:
    return section(TrainingConfig(1, batch_size, 1, learning_rate, warmup_steps=warmup_steps))

  config.reward.base = training(base_rate, 2)
  config.reward.training = training(reward_rate, 1)
  config.reward.preference_batch_size = batch_size
  config.policy.training = training(policy_rate, 1)
  config.sampling.training = section(SamplerConfig(num_samples=4, max_new_tokens=new_tokens))
  sampler = SamplerConfig(temperature=0.7, max_new_tokens=new_tokens)
  config.sampling.evaluation = section(sampler)
  return config
