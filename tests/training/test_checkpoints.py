import functools
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from apo_jax.devices import interrupts
from apo_jax.training.checkpoints import DamagedCheckpoint, load_parameters, open_phase
from apo_jax.training.optimization import abstract_state, init_state, make_optimizer
from tests import tiny


@functools.cache
def optimizer():
  return make_optimizer(tiny.config().policy.training, 10)


def abstract():
  return abstract_state(tiny.policy()[0], optimizer())


@functools.cache
def state_at(step):
  """A state whose every number is random, moments and counts of the optimizer included."""
  rng = np.random.default_rng(step)

  def fill(leaf):
    values = np.asarray(rng.normal(size=leaf.shape) * 1e3, leaf.dtype)
    return jax.device_put(values, leaf.sharding)

  return jax.tree.map(fill, abstract())._replace(step=jnp.asarray(step, jnp.int32))


def position(step):
  return {"next_index": step}


def save(directory, *steps, keep=10):
  with open_phase(directory, keep=keep) as checkpoints:
    for step in steps:
      checkpoints.save(state_at(step), step, position(step))


def restore(directory):
  with open_phase(directory, keep=10) as checkpoints:
    return checkpoints.restore(abstract())


def names(directory):
  return sorted(path.name for path in directory.iterdir())


def assert_bits_equal(tree, expected):
  assert jax.tree.structure(tree) == jax.tree.structure(expected)
  for leaf, other in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
    assert leaf.dtype == other.dtype and leaf.shape == other.shape
    assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes()


def test_everything_comes_back_bit_for_bit(tmp_path):
  save(tmp_path / "phase", 7)
  restored = restore(tmp_path / "phase")
  assert_bits_equal(restored.state, state_at(7))
  assert int(restored.state.step) == 7
  assert restored.input_position == position(7)
  # The state holds more than parameters and a step: both of Adam's moments.
  weights = len(jax.tree.leaves(restored.state.parameters))
  assert len(jax.tree.leaves(restored.state.optimizer_state)) >= 2 * weights


def test_values_that_are_odd_come_back_too(tmp_path):
  state = state_at(1)
  odd = np.full(state.parameters["embedding"].shape, -0.0, np.float32)
  odd[0, :4] = [1e-45, np.finfo(np.float32).max, np.inf, np.nan]
  state = state._replace(parameters={**state.parameters, "embedding": jnp.asarray(odd)})
  with open_phase(tmp_path / "phase", keep=1) as checkpoints:
    checkpoints.save(state, 1, position(1))
  assert_bits_equal(restore(tmp_path / "phase").state, state)


def test_arrays_come_back_onto_their_shardings(tmp_path):
  save(tmp_path / "phase", 1)
  restored = restore(tmp_path / "phase").state
  for leaf, described in zip(jax.tree.leaves(restored), jax.tree.leaves(abstract()), strict=True):
    assert leaf.sharding == described.sharding


def test_what_is_saved_outlives_a_donated_state(tmp_path):
  definition, parameters = tiny.policy()
  state = init_state(definition, optimizer(), parameters)
  with open_phase(tmp_path / "phase", keep=1) as checkpoints:
    checkpoints.save(state, 0, position(0))
    jax.tree.map(lambda leaf: leaf.delete(), state)
  assert_bits_equal(restore(tmp_path / "phase").state.parameters, parameters)


def test_the_newest_is_restored_and_the_newest_stay(tmp_path):
  save(tmp_path / "phase", 2, 4, 6, 10, keep=2)
  assert names(tmp_path / "phase") == ["10", "6"]
  restored = restore(tmp_path / "phase")
  assert_bits_equal(restored.state, state_at(10))
  assert restored.input_position == position(10)


def test_where_there_is_none_nothing_is_restored(tmp_path):
  assert restore(tmp_path / "phase") == (None, {}, ())


def test_parameters_can_be_read_alone(tmp_path):
  save(tmp_path / "phase", 1, 2)
  shutil.rmtree(tmp_path / "phase" / "2" / "optimizer")
  definition, _ = tiny.policy()
  loaded = load_parameters(tmp_path / "phase", definition, 2)
  assert_bits_equal(loaded, state_at(2).parameters)
  for leaf, described in zip(
    jax.tree.leaves(loaded), jax.tree.leaves(definition.abstract), strict=True
  ):
    assert leaf.sharding == described.sharding


@pytest.mark.parametrize("made", [True, False])
def test_no_checkpoint_to_read_from_is_named(tmp_path, made):
  directory = tmp_path / "phase"
  if made:
    directory.mkdir()
  with pytest.raises(DamagedCheckpoint, match=r"phase has no checkpoint of update 3, .* but none"):
    load_parameters(directory, tiny.policy()[0], 3)


def test_no_other_step_stands_for_the_last(tmp_path):
  save(tmp_path, 1)
  with pytest.raises(DamagedCheckpoint, match=r"no checkpoint of update 2, .* but those of 1"):
    load_parameters(tmp_path, tiny.policy()[0], 2)


def flip(path, place):
  content = bytearray(path.read_bytes())
  content[place] ^= 1 << (place % 8)
  path.write_bytes(content)


def data_of(step):
  """The file that holds most of a step's parameters."""
  files = (step / "parameters").rglob("*")
  return max((path for path in files if path.is_file()), key=lambda path: path.stat().st_size)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """Checkpoints of the steps 1 and 2, to be copied."""
  directory = tmp_path_factory.mktemp("saved")
  save(directory, 1, 2)
  return directory


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_one_flipped_bit_is_noticed_and_the_step_before_is_taken(saved, tmp_path, share):
  directory = shutil.copytree(saved, tmp_path / "phase")
  path = data_of(directory / "2")
  flip(path, int(share * path.stat().st_size))
  with pytest.raises(DamagedCheckpoint, match="phase/2 "):
    load_parameters(directory, tiny.policy()[0], 2)
  restored = restore(directory)
  assert_bits_equal(restored.state, state_at(1))
  (said,) = restored.damaged
  assert "phase/2 " in said
  assert names(directory) == ["1"]  # so that step 2 can be written again


@pytest.mark.parametrize(
  ("part", "how"),
  [("parameters", "gone"), ("optimizer", "cut"), ("input", "empty"), ("checksums", "gone")],
)
def test_what_cannot_be_read_is_damaged(saved, tmp_path, part, how):
  directory = shutil.copytree(saved, tmp_path / "phase")
  found = [path for path in (directory / "2" / part).rglob("*") if path.is_file()]
  for path in found:
    if how == "gone":
      path.unlink()
    else:
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if how == "cut" else 0])
  restored = restore(directory)
  assert_bits_equal(restored.state, state_at(1))
  assert len(restored.damaged) == 1 and "\n" not in restored.damaged[0]


def test_an_interruption_that_orbax_keeps_is_no_damage(saved, tmp_path, monkeypatch):
  """Raised within a load it comes out as an error of Orbax's, and no step may be deleted for it."""
  directory = shutil.copytree(saved, tmp_path / "phase")

  def load(*arguments):
    try:
      signal.raise_signal(signal.SIGTERM)
    except interrupts.Interrupted as interrupted:
      raise ValueError("Failed to load checkpointable") from interrupted

  monkeypatch.setattr(ocp.training.Checkpointer, "load_checkpointables", load)
  with pytest.raises(interrupts.Interrupted), interrupts.listening():
    restore(directory)
  assert names(directory) == ["1", "2"]


def test_where_all_are_damaged_the_phase_begins_again(saved, tmp_path):
  directory = shutil.copytree(saved, tmp_path / "phase")
  for step in "12":
    flip(data_of(directory / step), data_of(directory / step).stat().st_size // 2)
  restored = restore(directory)
  assert restored.state is None and len(restored.damaged) == 2
  assert names(directory) == []


def test_saving_a_step_again_leaves_it_as_it_was(tmp_path):
  save(tmp_path / "phase", 1)
  with open_phase(tmp_path / "phase", keep=10) as checkpoints:
    checkpoints.save(state_at(2), 1, position(99))
    checkpoints.save(state_at(2), 2, position(2))
    checkpoints.save(state_at(1), 2, position(99))
  assert names(tmp_path / "phase") == ["1", "2"]
  restored = restore(tmp_path / "phase")
  assert_bits_equal(restored.state, state_at(2))
  assert restored.input_position == position(2)
  shutil.rmtree(tmp_path / "phase" / "2")
  restored = restore(tmp_path / "phase")
  assert_bits_equal(restored.state, state_at(1))
  assert restored.input_position == position(1)


def test_an_exception_waits_for_what_is_being_saved(tmp_path):
  with (
    pytest.raises(KeyboardInterrupt),
    open_phase(tmp_path / "phase", keep=10) as checkpoints,
  ):
    checkpoints.save(state_at(1), 1, position(1))
    raise KeyboardInterrupt
  assert_bits_equal(restore(tmp_path / "phase").state, state_at(1))


@pytest.mark.parametrize("suffix", [".orbax-checkpoint-tmp", ".orbax-checkpoint-tmp-1721822400"])
def test_what_a_kill_left_half_written_is_passed_over(tmp_path, suffix):
  directory = tmp_path / "phase"
  save(directory, 1)
  # Orbax writes a step under such a name, and renames it when all of it is there.
  half = directory / f"2{suffix}"
  shutil.copytree(directory / "1", half)
  shutil.rmtree(half / "parameters")
  assert_bits_equal(load_parameters(directory, tiny.policy()[0], 1), state_at(1).parameters)
  assert_bits_equal(restore(directory).state, state_at(1))
  save(directory, 2)
  assert names(directory) == ["1", "2"]
  assert_bits_equal(restore(directory).state, state_at(2))


def test_saves_leave_no_descriptors_and_threads(tmp_path):
  """A game of hundreds of rounds had thousands."""

  def used():
    return [len(os.listdir(f"/proc/self/{what}")) for what in ("fd", "task")]

  save(tmp_path / "0", 1, 2)
  before = used()
  for phase in ("1", "2", "3"):
    save(tmp_path / phase, 1, 2)
  # Each save left three descriptors and a thread. Pools of threads may still grow by a few.
  grown = [now - then for now, then in zip(used(), before, strict=True)]
  assert max(grown) < 6, grown
