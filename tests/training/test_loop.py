"""The loop around an update: stopped and started again, diverging, and without any update."""

import dataclasses
import functools
import io
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.data.input import batches as input_batches
from apo_jax.devices import interrupts
from apo_jax.devices.sharding import place_batch
from apo_jax.logs.metrics import MetricsWriter, read_metrics
from apo_jax.logs.progress import Progress
from apo_jax.policy_step import make_policy_update
from apo_jax.training.checkpoints import PhaseCheckpoints, open_phase
from apo_jax.training.loop import TrainingDiverged, TrainingLog, resume, train
from apo_jax.training.optimization import TrainState, abstract_state, init_state, make_optimizer
from tests import batches, tiny

CONFIG = tiny.config()
TRAINING = dataclasses.replace(
  CONFIG.policy.training, learning_rate=1e-3, warmup_steps=0, schedule="constant", clip_norm=1e9
)
NUM_STEPS, SAVE_EVERY = 7, 3
CLIP_NORM = 0.5  # as the log is told; updates clip at TRAINING.clip_norm
PLACE = {"round": 1, "phase": "policy"}


class Stopped(Exception):
  """Stands for a kill."""


@functools.cache
def update_and_optimizer():
  optimizer = make_optimizer(TRAINING, 10)
  update = make_policy_update(
    tiny.policy()[0], optimizer, CONFIG.policy.loss, tiny.mesh(), accumulation=1
  )
  return update, optimizer


@functools.cache
def batch_of(step):
  """The host batch of the update `step + 1`; all are different."""
  return batches.policy_batch(seed=step)


def abstract():
  return abstract_state(tiny.policy()[0], update_and_optimizer()[1])


def update_of(state, batch):
  """The update, of a host batch."""
  placed = place_batch(tiny.mesh(), batch, 8)
  return update_and_optimizer()[0](state, placed, {}, tiny.NO_KEY)


def start():
  definition, parameters = tiny.policy()
  return init_state(definition, update_and_optimizer()[1], parameters)


def run(
  run_dir,
  num_steps=NUM_STEPS,
  *,
  build=batch_of,
  stop_at=None,
  signal_at=None,
  start=start,
  log_every=1,
  keep=9,
):
  """One process: makes updates until `stop_at`, where it dies, or to the end; SIGTERM at one."""
  placed = 0

  def update(state, indexed):
    nonlocal placed
    step, batch = indexed
    placed += 1
    if stop_at is not None and step + 1 == stop_at:
      raise Stopped
    if signal_at is not None and step + 1 == signal_at:
      signal.raise_signal(signal.SIGTERM)
    return update_of(state, batch)

  writer = MetricsWriter(
    run_dir, tensorboard=False, wandb=False, wandb_project="", config={}, enabled=True
  )
  with (
    writer,
    open_phase(run_dir / "policy", keep=keep) as checkpoints,
    Progress(True, io.StringIO()).phase("policy", num_steps) as progress,
  ):
    inputs = input_batches(num_steps, lambda step: (step, build(step)))
    state = train(
      update,
      resume(checkpoints, abstract(), start, inputs, print),
      inputs,
      num_steps,
      checkpoints=checkpoints,
      save_every=SAVE_EVERY,
      log=TrainingLog(progress, writer, every=log_every, clip_norm=CLIP_NORM, **PLACE),
    )
  assert progress.done == num_steps
  return state, placed


def lines(run_dir):
  """The lines of metrics.jsonl without their time."""
  found = read_metrics(run_dir)
  return [{name: value for name, value in line.items() if name != "time"} for line in found]


def newest(run_dir):
  with open_phase(run_dir / "policy", keep=9) as checkpoints:
    return checkpoints.restore(abstract())


def steps_on_disk(run_dir):
  return sorted(int(path.name) for path in (run_dir / "policy").iterdir())


def assert_bits_equal(tree, expected):
  assert jax.tree.structure(tree) == jax.tree.structure(expected)
  for leaf, other in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
    assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run that was never interrupted: its directory, state and last metrics."""
  run_dir = tmp_path_factory.mktemp("whole")
  state, _ = run(run_dir)
  last = lines(run_dir)[-1]
  return run_dir, state, {name: last[name] for name in last.keys() - PLACE.keys() - {"step"}}


def test_an_update_of_the_loop_is_an_update(whole):
  _, state, metrics = whole
  expected = start()
  for step in range(NUM_STEPS):
    expected, last = update_of(expected, batch_of(step))
  assert_bits_equal(state, expected)
  told = {name: float(value) for name, value in last.items()}
  assert metrics == {**told, "clipped": pytest.approx(1 - CLIP_NORM / told["gradient_norm"])}


def test_what_a_run_leaves(whole):
  run_dir, state, metrics = whole
  assert steps_on_disk(run_dir) == [3, 6, 7]
  restored = newest(run_dir)
  assert_bits_equal(restored.state, state)
  assert restored.input_position == {"next_index": NUM_STEPS}
  written = lines(run_dir)
  assert [line["step"] for line in written] == [1, 2, 3, 4, 5, 6, 7]
  assert written[-1] == {**PLACE, "step": NUM_STEPS, **metrics}
  assert len({line["loss"] for line in written}) == NUM_STEPS


# Before the first checkpoint, just after one, between two (twice in a row), at the last update.
@pytest.mark.parametrize(("stop_at", "times"), [(3, 1), (4, 1), (6, 2), (7, 1)])
def test_stopped_and_started_again_is_as_if_never_stopped(whole, tmp_path, stop_at, times):
  for _ in range(times):
    with pytest.raises(Stopped):
      run(tmp_path, stop_at=stop_at)
  saved = (stop_at - 1) // SAVE_EVERY * SAVE_EVERY
  assert steps_on_disk(tmp_path) == list(range(SAVE_EVERY, stop_at, SAVE_EVERY))
  # An update's metrics are written while the next one runs, or before a save.
  assert len(lines(tmp_path)) == max(stop_at - 2, saved)
  state, placed = run(tmp_path)
  assert placed == NUM_STEPS - saved
  run_dir, expected, _ = whole
  assert_bits_equal(state, expected)
  assert lines(tmp_path) == lines(run_dir)
  restored = newest(tmp_path)
  assert_bits_equal(restored.state, expected)
  assert restored.input_position == {"next_index": NUM_STEPS}


def test_a_process_that_is_asked_to_end_saves_the_update_it_made(whole, tmp_path):
  """At an update that is no multiple of `SAVE_EVERY`."""
  with pytest.raises(interrupts.Interrupted), interrupts.listening():
    run(tmp_path, signal_at=5)
  assert steps_on_disk(tmp_path) == [3, 5] and len(lines(tmp_path)) == 5
  state, placed = run(tmp_path)
  assert placed == NUM_STEPS - 5
  assert_bits_equal(state, whole[1])
  assert lines(tmp_path) == lines(whole[0])


def test_a_finished_phase_is_not_trained_again(whole, tmp_path):
  shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
  before = (tmp_path / "metrics.jsonl").read_bytes()

  def fail():
    raise AssertionError("started from the beginning")

  state, placed = run(tmp_path, start=fail)
  assert placed == 0
  assert_bits_equal(state, whole[1])
  assert (tmp_path / "metrics.jsonl").read_bytes() == before
  assert steps_on_disk(tmp_path) == [3, 6, 7]


def test_metrics_are_written_every_so_often_and_at_the_end(whole, tmp_path):
  run(tmp_path, log_every=2, keep=1)
  assert lines(tmp_path) == [line for line in lines(whole[0]) if line["step"] in (2, 4, 6, 7)]
  assert steps_on_disk(tmp_path) == [7]
  for line in lines(tmp_path):
    assert line["clipped"] == pytest.approx(max(0.0, 1 - CLIP_NORM / line["gradient_norm"]))
  assert {line["clipped"] > 0 for line in lines(tmp_path)} == {True}


# Found while the next update runs already; found before a save; found after the last.
@pytest.mark.parametrize("wrong", [4, 6, 7])
def test_a_loss_that_is_not_finite_stops_the_phase(whole, tmp_path, wrong):
  def build(step):
    batch = batch_of(step)
    if step + 1 != wrong:
      return batch
    return batch._replace(reference_logprobs=np.full_like(batch.reference_logprobs, np.nan))

  with pytest.raises(TrainingDiverged) as error:
    run(tmp_path, build=build)
  message = str(error.value)
  assert message.startswith("In phase policy of round 1, ")
  assert f"is nan at update {wrong}." in message
  assert error.value.step == wrong and not np.isfinite(list(error.value.metrics.values())).all()
  name = message.removeprefix("In phase policy of round 1, ").split(" ")[0]
  assert name in whole[2]
  # Nothing of it is on disk, and the checkpoints before it are.
  saved = list(range(SAVE_EVERY, wrong, SAVE_EVERY))
  assert steps_on_disk(tmp_path) == saved
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(newest(tmp_path).state))
  assert lines(tmp_path) == [line for line in lines(whole[0]) if line["step"] < wrong]
  # With the cause gone, the run goes on from there.
  state, placed = run(tmp_path)
  assert placed == NUM_STEPS - saved[-1]
  assert_bits_equal(state, whole[1])


def test_without_an_update_the_start_is_saved(tmp_path):
  state, placed = run(tmp_path, num_steps=0)
  assert placed == 0
  assert_bits_equal(state, start())
  restored = newest(tmp_path)
  assert_bits_equal(restored.state, start())
  assert restored.input_position == {"next_index": 0}
  assert steps_on_disk(tmp_path) == [0] and lines(tmp_path) == []


class NoCheckpoints(PhaseCheckpoints):
  """In place of a phase's checkpoints: there are none, and saves are noted."""

  def __init__(self, notes):
    self.notes = notes

  def save(self, state, step, input_position):
    self.notes.append(f"save {step} at {input_position['next_index']}")


def order(monkeypatch, run_dir, num_steps, save_every):
  """What the loop does with the host's batches 0, 1, … and an update that computes nothing."""
  notes, nothing = [], TrainState(jnp.int32(0), {}, ())

  def update(state, step):
    notes.append(f"update {step + 1}")
    return state, {"loss": jnp.float32(step + 1), "gradient_norm": jnp.float32(1)}

  def read(metrics):
    notes.append(f"read {metrics['loss']:.0f}")
    return metrics

  monkeypatch.setattr(jax, "device_get", read)

  with (
    MetricsWriter(
      run_dir, tensorboard=False, wandb=False, wandb_project="", config={}, enabled=True
    ) as writer,
    Progress(True, io.StringIO()).phase("policy", num_steps) as progress,
  ):
    train(
      update,
      nothing,
      input_batches(num_steps, lambda step: step),
      num_steps,
      checkpoints=NoCheckpoints(notes),
      save_every=save_every,
      log=TrainingLog(progress, writer, every=1, clip_norm=CLIP_NORM, **PLACE),
    )
  assert [line["loss"] for line in lines(run_dir)] == list(range(1, num_steps + 1))
  return notes


def test_an_update_is_dispatched_before_the_metrics_of_the_last_are_read(monkeypatch, tmp_path):
  expected = ["update 1"]
  for step in (2, 3, 4):
    expected += [f"update {step}", f"read {step - 1}"]
  assert order(monkeypatch, tmp_path, 4, save_every=9) == [*expected, "read 4", "save 4 at 4"]


def test_before_a_save_the_metrics_are_read_and_no_batch_is_taken_ahead(monkeypatch, tmp_path):
  assert order(monkeypatch, tmp_path, 3, save_every=2) == [
    *["update 1", "update 2", "read 1", "read 2", "save 2 at 2"],
    *["update 3", "read 3", "save 3 at 3"],
  ]
