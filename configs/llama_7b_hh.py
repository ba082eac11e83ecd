"""The recipe of the paper (arXiv 2311.08045): LLaMA-7B on Helpful & Harmless, rejection sampling.

    python -m apo_jax.main --config=configs/llama_7b_hh.py \
      --config.model.checkpoint=/path/to/alpaca-7b

You provide
- the checkpoint, a directory or a hub name. The paper starts from Alpaca-7B; the default is the
  LLaMA under it, which the supervised start then tunes;
- the data, under data/hh/ (or wherever `--config.data.preferences=...` says): demonstrations,
  preferences, golden (the paper's are GPT-4's) and queries, in any format of the README.

The base holds the paper's optimisation already: an epoch in batches of 64 at 1e-6, 100 updates of
warm-up (its code also shows 1e-7 for a round). Values marked "ours" are where the paper is silent,
as are the cosine, which is nearest to the linear decay of its code, clipping and Adam's decays.
"""

import ml_collections

from apo_jax.config.base import base_config, section
from apo_jax.config.schema import SamplerConfig


def get_config() -> ml_collections.ConfigDict:
  """Returns the base (apo_jax/config/schema.py) with what differs here."""
  config = base_config()
  config.model.checkpoint = "huggyllama/llama-7b"

  for name in ("demonstrations", "preferences", "golden", "queries"):
    config.data[name] = f"data/hh/{name}.jsonl"
  config.data.chat_template = "hh"  # dialogues stay as HH writes them
  config.data.query_buckets = (64, 128, 255)  # ours; the paper's limit is 512 tokens in all
  config.data.row_buckets = (128, 256)  # ours
  config.data.separator = "<0x01>"  # LLaMA's token of id 4

  reward, policy = config.reward, config.policy
  for training in (config.supervised, reward.base, reward.training, policy.training):
    training.beta2 = 0.999  # ours
  reward.start = "base"  # each round anew; "previous" is the paper's -seq variant
  reward.apo.reduction = "reference"  # both terms over the number of all pairs, as the paper's code
  policy.loss = "rjs"  # the paper also plays rrhf and dpo
  policy.start = "base"  # each round anew
  policy.reference = "initial"  # the policy the game began with, as start is "base"
  for player in (reward, policy):
    player.lora.modules = ("query", "value")  # once a rank is set

  config.sampling.training = section(
    SamplerConfig(num_samples=4, temperature=1.2, max_new_tokens=256, stop=("\nHuman",))
  )
  config.sampling.evaluation = section(
    SamplerConfig(
      temperature=0.3,
      top_k=5,
      top_p=0.85,
      repetition_penalty=1.05,
      max_new_tokens=512,
      stop=("\nHuman",),
    )
  )
  config.evaluation.num_queries = 2048  # ours
  config.mesh.data = 1  # ours; docs/scaling.md says what more may save
  config.mesh.fsdp = -1
  config.checkpoints.every_steps = 200  # ours
  return config
