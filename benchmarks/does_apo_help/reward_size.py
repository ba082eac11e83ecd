"""The demo's game with a reward model of another size, which `reward.checkpoint` has.

    python -m apo_jax.main --config=benchmarks/does_apo_help/reward_size.py \
      --config.reward.checkpoint=runs/reward_models/half/0 --config.seed=0

The judge is trained as the demo's is.
"""

import ml_collections

from configs import demo


def get_config() -> ml_collections.ConfigDict:
  """Returns the demo's config with what differs here."""
  config = demo.get_config()
  config.testing_reward.training = config.reward.base.copy_and_resolve_references()
  config.reward.base.epochs = 0
  return config
