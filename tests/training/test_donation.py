"""Compiled steps write over what they are given: no second copy of a state is in memory."""

from typing import Any

import jax
import pytest

from apo_jax.config.schema import LoraConfig
from apo_jax.inference.sampler import Sampler
from apo_jax.models.definition import Definition, define_policy, define_reward_model
from apo_jax.policy_step import make_policy_update
from apo_jax.reward_step import make_reward_update
from apo_jax.training.optimization import abstract_state, make_optimizer
from apo_jax.training.update import lower_update
from tests import batches, tiny

CONFIG = tiny.config()
ADAPTERS = LoraConfig(rank=2, alpha=4.0, dropout=0.1, modules=("query", "down"))


def size(tree: Any) -> int:
  """Bytes of a pytree's arrays."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_donated(definition: Definition, update: Any, optimizer: Any, batch: Any) -> None:
  state = abstract_state(definition, optimizer)
  lowered = lower_update(update, definition, optimizer, batch)
  sizes = lowered.compile().memory_analysis()
  assert sizes.alias_size_in_bytes == size(state)
  # Beside the state nothing comes out but the metrics.
  assert sizes.output_size_in_bytes - size(state) < 1000


@pytest.mark.parametrize(
  "lora", [pytest.param(None, marks=pytest.mark.slow), ADAPTERS], ids=["whole", "adapters"]
)
def test_a_policy_step_writes_over_its_state(lora):
  definition = define_policy(tiny.architecture(), tiny.mesh(), lora)
  optimizer = make_optimizer(CONFIG.policy.training, 10)
  update = make_policy_update(
    definition, optimizer, CONFIG.policy.loss, tiny.mesh(), accumulation=1
  )
  check_donated(definition, update, optimizer, batches.policy_batch())


@pytest.mark.parametrize(
  "lora", [pytest.param(None, marks=pytest.mark.slow), ADAPTERS], ids=["whole", "adapters"]
)
def test_a_reward_step_writes_over_its_state(lora):
  definition = define_reward_model(tiny.architecture(), "last", tiny.mesh(), lora)
  optimizer = make_optimizer(CONFIG.reward.training, 10)
  update = make_reward_update(
    definition, optimizer, CONFIG.reward.apo, tiny.mesh(), num_samples=3, accumulation=1
  )
  check_donated(definition, update, optimizer, batches.reward_batch())


def test_decoding_writes_over_its_caches_and_samples():
  definition, _ = tiny.policy()
  sampler = Sampler(
    definition,
    tiny.codec(),
    tiny.mesh(),
    buckets=(8,),
    batch_size=4,
    cache_dtype="float32",
    gather_weights=False,
  )
  _, decode = sampler.lowered(CONFIG.sampling.training, 8)
  _, state = decode.in_avals[0]
  expected = size(state)
  assert expected > 0
  assert decode.compile().memory_analysis().alias_size_in_bytes == expected
