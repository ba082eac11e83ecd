"""On 8 devices, updates and scores of shared rows: the same numbers as on one device."""

import jax
import optax
import pytest

from apo_jax.devices.sharding import place_batch
from apo_jax.inference.scoring import make_logprob_scorer, make_reward_scorer
from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.policy_step import make_policy_update
from apo_jax.reward_step import RewardBatch, make_reward_update
from apo_jax.rows.rows import Response
from apo_jax.training.optimization import init_state
from tests import batches, tiny
from tests.multi_device.test_mesh import ALL_KINDS, CONFIG, assert_equal_to_one_device

# Its state is the gradient of the last update. AdamW would make much of the smallest differences.
GRADIENT = optax.trace(decay=0.0)


@pytest.mark.parametrize("pooling", ["last", pytest.param("average", marks=pytest.mark.slow)])
def test_reward_update(pooling):
  def run(mesh):
    definition = define_reward_model(tiny.architecture(), pooling, mesh)
    update = make_reward_update(
      definition, GRADIENT, CONFIG.reward.apo, mesh, num_samples=3, accumulation=1
    )
    placed = RewardBatch(*place_batch(mesh, tuple(batches.reward_batch(shared=True)), 8))
    return update(init_state(definition, GRADIENT, definition.init(0)), placed, {}, tiny.NO_KEY)

  assert_equal_to_one_device(run)


@ALL_KINDS
def test_policy_update(shape):
  """Accumulated over two micro-batches, which the mesh must split evenly too."""

  def run(mesh):
    definition = define_policy(tiny.architecture(), mesh)
    update = make_policy_update(definition, GRADIENT, CONFIG.policy.loss, mesh, accumulation=2)
    placed = place_batch(mesh, batches.policy_batch(queries=16, shared=True), 16)
    return update(init_state(definition, GRADIENT, definition.init(0)), placed, {}, tiny.NO_KEY)

  assert_equal_to_one_device(run, shape)


@pytest.mark.slow
def test_scoring():
  """3 rows hold the 8 sequences of a call; split over 4 groups of devices there are 4."""
  sequences = [([1, 40, 50 + n // 3], Response([60 + n, 70])) for n in range(31)]

  def run(mesh):
    policy = define_policy(tiny.architecture(), mesh)
    reward_model = define_reward_model(tiny.architecture(), "last", mesh)
    shape = {"batch_size": 8, "query_length": 6, "lengths": (8,), "eos": tiny.codec().eos}
    scorers = (
      make_logprob_scorer(policy, mesh, **shape),
      make_reward_scorer(reward_model, mesh, **shape),
    )
    assert scorers[0].layout(3).shared
    assert scorers[0].rows_a_call(scorers[0].layout(3)) == (3 if mesh.size == 1 else 4)
    return [
      scorer(model.init(0), sequences)
      for scorer, model in zip(scorers, (policy, reward_model), strict=True)
    ]

  assert len(jax.devices()) == 8
  assert_equal_to_one_device(run, rtol=1e-6)
