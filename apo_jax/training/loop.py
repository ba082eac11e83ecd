"""The loop around an update, the same for every training phase: resume, update, log, save."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import grain
import jax

from apo_jax.logs.metrics import MetricsWriter
from apo_jax.logs.progress import PhaseProgress
from apo_jax.training.checkpoints import PhaseCheckpoints
from apo_jax.training.optimization import TrainState


class TrainingDiverged(RuntimeError):
  """A loss or gradient stopped being a number."""


def train(
  update: Callable[[TrainState, Any], tuple[TrainState, Mapping[str, jax.Array]]],
  start: Callable[[], TrainState],
  abstract: TrainState,
  inputs: grain.DatasetIterator,
  place: Callable[[Any], Any],
  num_steps: int,
  *,
  checkpoints: PhaseCheckpoints,
  save_every: int,
  progress: PhaseProgress,
  writer: MetricsWriter,
  log_every: int,
  round: int,
  phase: str,
) -> TrainState:
  """Makes `num_steps` updates, or those still missing after the newest checkpoint.

  Args:
    update: the jitted step; it donates its state.
    start: makes the state before the first update, called where there is no checkpoint.
    abstract: shapes and shardings of the state, for restoring.
    inputs: host batches, with the position that checkpoints save.
    place: puts a host batch onto the devices.
    num_steps: updates of the whole phase.
    checkpoints: where states are saved, every `save_every` updates and after the last.
    progress: told of every update, and of the first as soon as it is done.
    writer: given the metrics of every `log_every`-th update and the last.
    round: the round, for the writer.
    phase: the phase's name, for the writer and messages.

  Returns:
    The state after the last update.

  Raises:
    TrainingDiverged: a metric of an update is not finite. Checkpoints before it are kept.
  """
  restored = checkpoints.restore(abstract)
  if restored is None:
    state, first = start(), 0
  else:
    state, first = restored.state, int(restored.state.step)
    inputs.set_state(restored.input_position)
  writer.resume(round=round, phase=phase, step=first)
  progress.advance(first)

  def finish(step: int, metrics: Mapping[str, jax.Array]) -> None:
    """Fetches the metrics of an update, which waits for it; so it is called one update late."""
    values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
      raise TrainingDiverged(
        f"In phase {phase} of round {round}, {wrong[0]} is {values[wrong[0]]} at update {step}; "
        "a smaller learning rate or a smaller clip_norm may help."
      )
    if step % log_every == 0 or step == num_steps:
      writer.write(values, round=round, phase=phase, step=step)
    progress.advance(1, loss=values["loss"])

  waiting: tuple[int, Mapping[str, jax.Array]] | None = None
  for step in range(first + 1, num_steps + 1):
    # While the devices make an update, the next batch is built, placed and dispatched.
    state, metrics = update(state, place(next(inputs)))
    if step == first + 1:
      jax.block_until_ready(metrics)  # the one update that compiles: its time is told apart
      progress.first_done()
    if waiting is not None:
      finish(*waiting)
    waiting = (step, metrics)
    if step % save_every == 0 and step < num_steps:
      finish(*waiting)  # nothing is saved that is not finite
      waiting = None
      checkpoints.save(state, step, inputs.get_state())
  if waiting is not None:
    finish(*waiting)
  checkpoints.save(state, num_steps, inputs.get_state())
  return state
