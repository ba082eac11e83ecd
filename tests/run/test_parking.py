"""The idle player's parameters wait in the host's memory, and nothing else changes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.devices.sharding import named
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.models.definition import define_policy
from apo_jax.models.logprobs import sequence_logprobs
from apo_jax.rows.rows import flatten
from apo_jax.run.models import make_models
from apo_jax.run.origins import find_origins
from apo_jax.run.parameters import ParameterStore
from apo_jax.run.parking import PINNED, fetch, host_memory, park
from apo_jax.run.players import Player
from tests import batches, checkpoints, tiny, tpu

HOST = host_memory(tiny.mesh())


def kinds(tree) -> set[str]:
  return {leaf.sharding.memory_kind for leaf in jax.tree.leaves(tree)}


def is_parked(tree) -> bool:
  """Whether all of it is on the host; none of it is where this says no."""
  found = kinds(tree)
  assert len(found) == 1
  return found == {HOST}


def test_parked_arrays_are_on_the_host_with_their_values_and_layout():
  definition, parameters = tiny.policy()
  parked = park(parameters, HOST)
  assert is_parked(parked) and not is_parked(parameters)
  for array, like in zip(jax.tree.leaves(parked), jax.tree.leaves(parameters), strict=True):
    assert array.sharding.spec == like.sharding.spec
    np.testing.assert_array_equal(array, like)
  fetched = fetch(parked, HOST)
  assert kinds(fetched) == kinds(parameters)
  jax.tree.map(np.testing.assert_array_equal, fetched, parameters)
  # A jitted function takes them as if they had never been away.
  double = jax.jit(
    lambda tree: jax.tree.map(jnp.add, tree, tree), in_shardings=(definition.shardings,)
  )
  double(fetched)


def test_what_is_in_use_or_there_already_is_not_moved():
  _, parameters = tiny.policy()
  leaves = jax.tree.leaves(parameters)
  parked = jax.tree.leaves(park(parameters, HOST, {id(leaves[0])}))
  assert parked[0] is leaves[0] and is_parked(parked[1:])
  again = jax.tree.leaves(park(parked[1:], HOST))
  assert all(one is other for one, other in zip(again, parked[1:], strict=True))
  assert fetch(leaves[0], HOST) is leaves[0]


POLICY, REWARD = Player("policy"), Player("reward")


def make_store(*, park_idle_player=True, **overrides):
  """The parameters of a run without a directory, and its models."""
  config = tiny.config(**overrides)
  models = make_models(config, find_origins(config), tiny.mesh())
  store = ParameterStore(models, RunDirectory(Path()), park_idle_player=park_idle_player)
  return store, models


def remember(store, models) -> None:
  """A trained policy and reward model, both in device memory."""
  for player in (POLICY, REWARD):
    definition = models.of(player)
    store.remember(player, definition.split(definition.init(0))[0])


def test_whose_turn_it_is_has_its_parameters_on_the_device():
  store, models = make_store()
  remember(store, models)
  policy, reward = store._trained[POLICY], store._trained[REWARD]
  for player, other in ((POLICY, REWARD), (REWARD, POLICY), (REWARD, POLICY)):
    assert not is_parked(store.of(player))
    assert not is_parked(store._trained[player]) and is_parked(store._trained[other])
  jax.tree.map(np.testing.assert_array_equal, store.of(POLICY), policy)
  jax.tree.map(np.testing.assert_array_equal, store.of(REWARD), reward)


def test_while_a_player_is_trained_what_it_started_from_waits_too():
  store, models = make_store()
  remember(store, models)
  store.of(REWARD)
  store.park_idle(models.reward)
  assert all(map(is_parked, store._trained.values()))


def test_nothing_is_parked_unless_asked_for():
  store, models = make_store(park_idle_player=False)
  remember(store, models)
  store.of(POLICY)
  store.park_idle(models.policy)
  assert not any(map(is_parked, store._trained.values()))


@pytest.fixture(scope="module")
def language_model(tmp_path_factory) -> Path:
  return checkpoints.write(tmp_path_factory.mktemp("checkpoints") / "language_model")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
  directory = tmp_path_factory.mktemp("checkpoints") / "classifier"
  return checkpoints.write(directory, reward=True, seed=1)


ADAPTERS = {"policy__lora__rank": 2, "reward__lora__rank": 2}


def test_frozen_parameters_that_both_players_read_stay(language_model):
  store, models = make_store(model__checkpoint=str(language_model), **ADAPTERS)
  remember(store, models)
  for player in (POLICY, REWARD, POLICY):
    assert not is_parked(store.of(player))
    shared, theirs = store.frozen(models.policy), store.frozen(models.reward)["trunk"]
    for array, other in zip(jax.tree.leaves(shared), jax.tree.leaves(theirs), strict=True):
      assert array is other
  assert is_parked(store._trained[REWARD])


def test_frozen_parameters_of_one_player_alone_wait_with_it(language_model, classifier):
  store, models = make_store(
    model__checkpoint=str(language_model), reward__checkpoint=str(classifier), **ADAPTERS
  )
  remember(store, models)
  for player, active, idle in (
    (POLICY, models.policy, None),
    (REWARD, models.reward, models.policy),
    (POLICY, models.policy, models.reward),
  ):
    assert not is_parked(store.of(player))
    assert not is_parked(store._frozen[active])
    assert idle is None or is_parked(store._frozen[idle])


def test_a_tpu_computes_with_parameters_from_pinned_memory():
  """All of them are arguments in the host's memory, and copied from there."""
  mesh = tpu.mesh(2, 2)
  definition = define_policy(tiny.architecture(), mesh)
  host = jax.tree.map(lambda one: one.with_memory_kind(PINNED), definition.shardings)

  def score(parameters, rows):
    fetched = jax.device_put(parameters, definition.shardings)
    return sequence_logprobs(definition.bind(fetched), rows)

  rows = flatten(batches.policy_batch(samples=4).rows)
  rows = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), rows)
  shapes = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), definition.abstract
  )
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    step = jax.jit(score, in_shardings=(host, named(mesh, "batch")), out_shardings=named(mesh))
    sizes = step.lower(shapes, rows).compile().memory_analysis()
  needed = sum(
    np.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(definition.abstract)
  )
  assert sizes.host_argument_size_in_bytes >= needed
  assert sizes.argument_size_in_bytes < needed
