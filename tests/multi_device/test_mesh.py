"""On 8 devices, meshes of every kind: the same numbers as on one device."""

import dataclasses

import jax
import numpy as np
import pytest

from apo_jax.devices.sharding import place_batch
from apo_jax.inference.decoding_weights import decoding_form
from apo_jax.inference.sampler import Sampler
from apo_jax.inference.scoring import make_logprob_scorer, make_reward_scorer
from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.objectives import MinNorm
from apo_jax.policy_step import make_policy_update
from apo_jax.preview.memory import memory_of, total
from apo_jax.reward_step import RewardBatch, make_reward_update
from apo_jax.rows.rows import Response
from apo_jax.run import seeds
from apo_jax.run.models import make_models
from apo_jax.run.origins import find_origins
from apo_jax.training.checkpoints import load_parameters, open_phase
from apo_jax.training.optimization import abstract_state, init_state, make_optimizer
from tests import batches, tiny

CONFIG = tiny.config()
TRAINING = dataclasses.replace(CONFIG.policy.training, learning_rate=1e-3, warmup_steps=0)
SLOW = pytest.mark.slow
ALL_KINDS = pytest.mark.parametrize(
  "shape",
  [(2, 2, 2), *(pytest.param(kind, marks=SLOW) for kind in ((8, 1, 1), (1, 4, 2)))],
  ids=str,
)
EOS = tiny.codec().eos


def assert_equal_to_one_device(run, shape=(2, 2, 2), rtol=0.0):
  """`run(mesh)` gives arrays; they may differ by 1e-5."""

  def on(mesh):
    with jax.set_mesh(mesh):
      return jax.tree.map(np.asarray, run(mesh))

  expected, actual = on(tiny.mesh()), on(tiny.mesh(*shape))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=rtol), actual, expected
  )


BY_SUBSETS = {"weighting": MinNorm(), "subsets": ("a", "b")}


@pytest.mark.parametrize("weighed", [{}, pytest.param(BY_SUBSETS, marks=SLOW)], ids=len)
def test_reward_update(weighed):
  """Of preferences as one term, and of two subsets whose weights depend on the whole batch."""
  batch = batches.reward_batch()
  if weighed:
    batch = batch._replace(preference_subsets=np.arange(8, dtype=np.int32) % 2)

  def run(mesh):
    definition = define_reward_model(tiny.architecture(), "last", mesh)
    optimizer = make_optimizer(TRAINING, 10)
    update = make_reward_update(
      definition, optimizer, CONFIG.reward.apo, mesh, num_samples=3, **weighed
    )
    placed = RewardBatch(*place_batch(mesh, tuple(batch), 8))
    return update(init_state(definition, optimizer, definition.init(0)), placed, {}, tiny.NO_KEY)

  assert_equal_to_one_device(run)


@ALL_KINDS
def test_policy_update(shape):
  """Accumulated over two micro-batches, which the mesh must split evenly too."""

  def run(mesh):
    definition = define_policy(tiny.architecture(), mesh)
    optimizer = make_optimizer(TRAINING, 10)
    update = make_policy_update(definition, optimizer, CONFIG.policy.loss, mesh, accumulation=2)
    placed = place_batch(mesh, batches.policy_batch(queries=16), 16)
    return update(init_state(definition, optimizer, definition.init(0)), placed, {}, tiny.NO_KEY)

  assert_equal_to_one_device(run, shape)


@pytest.mark.parametrize(
  ("max_new_tokens", "gather"),
  [pytest.param(23, False, marks=SLOW), pytest.param(40, False, marks=SLOW), (23, True)],
)
def test_sampling(max_new_tokens, gather):
  """With 40 tokens there is time for the batch to shrink, on each device by itself."""
  queries = [[1, *range(40, 43 + n)] for n in range(10)]
  keys = np.stack([seeds.derive_key(0, index) for index in range(10)])
  config = dataclasses.replace(
    CONFIG.sampling.training, max_new_tokens=max_new_tokens, stop=("y", "k", "w", "p")
  )

  def run(mesh):
    definition = define_policy(tiny.architecture(), mesh)
    sampler = Sampler(
      definition,
      tiny.codec(),
      mesh,
      buckets=(16,),
      batch_size=8,
      cache_dtype="float32",
      gather_weights=gather,
    )
    drawn = sampler(definition.init(0), queries, keys, config)
    return [[(one.response.tokens, one.logprob) for one in query] for query in drawn]

  # Log-probabilities are sums of some hundred nats: float32 holds seven digits of them.
  assert_equal_to_one_device(run, rtol=1e-6)


def test_scoring():
  sequences = [([1, 40, 50 + n], Response([60 + n, 70])) for n in range(11)]

  def run(mesh):
    policy = define_policy(tiny.architecture(), mesh)
    reward_model = define_reward_model(tiny.architecture(), "last", mesh)
    shape = {"batch_size": 8, "query_length": 4, "lengths": (8,), "eos": EOS}
    return (
      make_logprob_scorer(policy, mesh, **shape)(policy.init(0), sequences),
      make_reward_scorer(reward_model, mesh, **shape)(reward_model.init(0), sequences),
    )

  assert_equal_to_one_device(run, rtol=1e-6)


def test_parameters_and_moments_are_split_as_the_rules_say():
  mesh = tiny.mesh(2, 2, 2)
  definition = define_policy(tiny.architecture(), mesh)
  optimizer = make_optimizer(TRAINING, 10)
  state = init_state(definition, optimizer, definition.init(0))
  gate = state.parameters["layers"]["gate"]
  layers, embed, hidden = gate.shape
  assert gate.sharding.shard_shape(gate.shape) == (layers, embed // 2, hidden // 2)
  moment = state.optimizer_state[1][0].mu["layers"]["gate"]
  assert moment.sharding == gate.sharding


def test_a_checkpoint_is_restored_onto_another_mesh(tmp_path):
  optimizer = make_optimizer(TRAINING, 10)
  first = define_policy(tiny.architecture(), tiny.mesh(2, 2, 2))
  state = init_state(first, optimizer, first.init(3))
  with open_phase(tmp_path, keep=1) as checkpoints:
    checkpoints.save(state, 4, {"position": 4})
  second = define_policy(tiny.architecture(), tiny.mesh(1, 4, 1))
  with open_phase(tmp_path, keep=1) as checkpoints:
    restored = checkpoints.restore(abstract_state(second, optimizer))
  assert restored.input_position == {"position": 4}
  jax.tree.map(np.testing.assert_array_equal, restored.state, state)
  for loaded in (restored.state.parameters, load_parameters(tmp_path, second, 4)):
    gate = loaded["layers"]["gate"]
    assert gate.sharding == second.shardings["layers"]["gate"]
    jax.tree.map(np.testing.assert_array_equal, loaded, state.parameters)


def test_gathered_weights_are_split_along_tensor_alone():
  mesh = tiny.mesh(2, 2, 2)
  definition = define_policy(tiny.architecture(), mesh)
  parameters = definition.init(0)
  form = decoding_form(definition, mesh, gather=True)
  assert form.changes and form.stacks == 1
  gate = form(parameters).parameters["layers"]["gate"]
  layers, embed, hidden = gate.shape
  assert gate.sharding.shard_shape(gate.shape) == (layers, embed, hidden // 2)
  assert form.abstract.parameters["layers"]["gate"].sharding == gate.sharding


def test_the_memory_that_a_preview_tells_is_that_of_a_device():
  """By shapes, what the first device holds when the parameters are made."""
  config = tiny.config()
  models = make_models(config, find_origins(config), tiny.mesh(2, 2, 2))
  told = memory_of(config, models)[0]
  parameters = models.policy.init(0)
  state = init_state(models.policy, make_optimizer(config.policy.training, 1), parameters)

  def held(tree):
    leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim]
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)

  assert total(told.weights) == held(parameters) < 4 * told.parameters
  assert total(told.optimizer) == held(state.optimizer_state)
