"""The loop around an update, the same for every training phase: resume, update, log, save."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import grain
import jax

from apo_jax.devices import interrupts
from apo_jax.logs.metrics import MetricsWriter
from apo_jax.logs.progress import PhaseProgress
from apo_jax.training.checkpoints import PhaseCheckpoints
from apo_jax.training.optimization import TrainState

Metrics = Mapping[str, jax.Array]


class TrainingDiverged(RuntimeError):
  """A loss or gradient stopped being a number.

  Args:
    message: a sentence.
    step: the update, counted from 1.
    metrics: of that update.
  """

  def __init__(self, message: str, step: int, metrics: Mapping[str, float]):
    super().__init__(message)
    self.step = step
    self.metrics = metrics


@dataclasses.dataclass(frozen=True)
class TrainingLog:
  """What is said of a phase's updates.

  Attributes:
    progress: told of every update, and of the first as soon as it is done.
    writer: given the metrics of every `every`-th update and the last.
    round: the round, for the writer.
    phase: the phase's name, for the writer and messages.
    every: updates from one line of the writer's to the next.
    clip_norm: the largest norm of the gradient. `clipped`, beside the metrics of an update, is the
      share of its gradient that clipping took away, 0 where it was not longer.
  """

  progress: PhaseProgress
  writer: MetricsWriter
  round: int
  phase: str
  every: int
  clip_norm: float

  def resume(self, step: int) -> None:
    """Goes on behind the update `step`; what was written of later ones is taken back."""
    self.writer.resume(round=self.round, phase=self.phase, step=step)
    self.progress.advance(step)

  def updated(self, step: int, metrics: Metrics) -> None:
    """Fetches the metrics of an update, which waits for it.

    Raises:
      TrainingDiverged: one is not finite.
    """
    values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
    for name, value in values.items():
      if not math.isfinite(value):
        raise TrainingDiverged(
          f"In phase {self.phase} of round {self.round}, {name} is {value} at update {step}.",
          step,
          values,
        )
    values["clipped"] = 1 - min(1.0, self.clip_norm / max(values["gradient_norm"], self.clip_norm))
    if step % self.every == 0 or step == self.progress.total:
      self.writer.write(values, round=self.round, phase=self.phase, step=step)
    self.progress.advance(1, loss=values["loss"])


def resume(
  checkpoints: PhaseCheckpoints,
  abstract: TrainState,
  start: Callable[[], TrainState],
  inputs: grain.DatasetIterator,
  say: Callable[[str], None],
) -> TrainState:
  """The state of the newest good checkpoint, laid out as `abstract`, with `inputs` at its position.

  Where there is no checkpoint it is what `start` makes. Damaged ones are dropped, and `say` is told
  so: their updates are made again.
  """
  restored = checkpoints.restore(abstract)
  for damaged in restored.damaged:
    say(f"{damaged} It is deleted, and its updates are made again.")
  if restored.state is None:
    return start()
  inputs.set_state(restored.input_position)
  return restored.state


def train(
  update: Callable[[TrainState, Any], tuple[TrainState, Metrics]],
  state: TrainState,
  inputs: grain.DatasetIterator,
  num_steps: int,
  *,
  checkpoints: PhaseCheckpoints,
  save_every: int,
  log: TrainingLog,
) -> TrainState:
  """Makes the updates that a state lacks of `num_steps`.

  Args:
    update: places a host batch and dispatches the jitted step, which donates its state.
    state: what to go on from (`resume`).
    inputs: host batches, with the position that checkpoints save.
    num_steps: updates of the whole phase.
    checkpoints: where states are saved, every `save_every` updates and after the last.
    save_every: updates from one checkpoint to the next.
    log: told of every update.

  Returns:
    The state after the last update.

  Raises:
    TrainingDiverged: a metric of an update is not finite. Checkpoints before it are kept.
    Interrupted: the process was asked to end. The updates made until then are in a checkpoint.
  """
  first = int(state.step)
  log.resume(first)
  waiting: tuple[int, Metrics] | None = None
  with contextlib.ExitStack() as held:
    for step in range(first + 1, num_steps + 1):
      # While the devices make an update, the next batch is built, placed and dispatched: metrics
      # are read one update late.
      state, metrics = update(state, next(inputs))
      if step == first + 1:
        jax.block_until_ready(metrics)  # the one update that compiles: its time is told apart
        log.progress.first_done()
        held.enter_context(interrupts.deferred())  # from here on there is something to save
      if waiting is not None:
        log.updated(*waiting)
      waiting = (step, metrics)
      if step < num_steps and (interrupts.stops_at(step) or step % save_every == 0):
        log.updated(*waiting)  # nothing is saved that is not finite
        waiting = None
        log.writer.sync()
        checkpoints.save(state, step, inputs.get_state())
        interrupts.check()
    if waiting is not None:
      log.updated(*waiting)
    log.writer.sync()
    checkpoints.save(state, num_steps, inputs.get_state())
  return state
