"""A failed update made again: the state before it, its batch, and what comes of it."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from apo_jax.config.base import to_dict
from apo_jax.config.fields import ConfigError
from apo_jax.data.tokens import Codec
from apo_jax.devices.sharding import make_mesh
from apo_jax.logs.metrics import MetricsWriter
from apo_jax.logs.places import Place
from apo_jax.logs.progress import Progress
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.phases.failed_batch import Failure, last_failure, read_batch, same_arrays
from apo_jax.phases.training import training_phase
from apo_jax.phases.training_phase import TrainingPhase
from apo_jax.replay.examination import Examination, examine
from apo_jax.replay.rows import RowFindings, rows_of
from apo_jax.run.checking import check, read_as_tokens
from apo_jax.run.opening import read_run_config
from apo_jax.run.players import made_by
from apo_jax.run.run import Logs, Run, make_run
from apo_jax.training.checkpoints import load_state
from apo_jax.training.optimization import TrainState, abstract_state, init_state


class Replay(NamedTuple):
  """What came of a failed update that was made again.

  Attributes:
    failure: what was kept of it.
    first: updates that the state had which was begun from.
    metrics: of the update, or of an earlier one that gave no number already.
    update: which of them; None where all are finite.
    batch_note: what is to be known of where the batch is from; "" for nothing.
    found: what the batch looks like; None where an earlier update gave no number.
    rows: the batch's.
    codec: of the run, to show them.
  """

  failure: Failure
  first: int
  metrics: Mapping[str, float]
  update: int | None
  batch_note: str
  found: Examination | None
  rows: list[RowFindings]
  codec: Codec

  @property
  def reproduced(self) -> bool:
    """Whether the same update gave no number again."""
    return self.update == self.failure.update

  @property
  def is_exact(self) -> bool:
    """Whether all its metrics are what they were."""
    return {name: repr(value) for name, value in self.metrics.items()} == self.failure.metrics


def replay(run_dir: Place, say: Callable[[str], None]) -> Replay:
  """Makes the last failed update of a run again; nothing is written.

  Args:
    run_dir: of the run.
    say: told a sentence while it works.

  Raises:
    ConfigError: it is no run, keeps no failed batch, or does not fit this machine.
  """
  directory = RunDirectory(run_dir)
  config = read_run_config(directory)
  failure = last_failure(directory)
  player = made_by(failure.round, failure.phase)
  if player is None:
    raise ConfigError(
      f"{directory.failed} holds a batch of phase {failure.phase!r} of round {failure.round}, which"
      " trains nobody; it was written by another version."
    )
  checked = check(config, directory)
  codec, data, _ = read_as_tokens(config, checked, checked.tokenizer)
  mesh = make_mesh(checked.sizes)
  silent = MetricsWriter(
    run_dir, tensorboard=False, wandb=False, wandb_project="", config=to_dict(config), enabled=False
  )
  with jax.set_mesh(mesh):
    logs = Logs(Progress(False), silent, False)
    run = make_run(config, directory, checked.origins, data, codec, mesh, logs)
    return _again(run, training_phase(run, player), failure, say)


def _again(run: Run, phase: TrainingPhase, failure: Failure, say: Callable[[str], None]) -> Replay:
  definition, build = run.models.of(phase.player), phase.batches.build
  if not 0 < failure.update <= phase.batches.number:
    raise ConfigError(
      f"The failed batch is of update {failure.update}, but phase {failure.phase} has"
      f" {phase.batches.number}; the samples that it learns from were made anew since."
    )
  batch, note = _batch(run, phase, failure)
  step = phase.make_update(phase.optimizer)
  state = _state_before(run, phase, failure.update)
  frozen, key = run.parameters.frozen(definition), phase.step_key(run.config.seed)
  first = int(state.step)
  begun = f"the checkpoint of update {first}" if first else f"the start of phase {failure.phase}"
  more = failure.update - 1 - first
  say(f"Updates that are made again before the failed one, from {begun}: {more}.")

  def outcome(update: int | None, metrics: Mapping[str, float]) -> Replay:
    return Replay(failure, first, metrics, update, note, None, [], run.codec)

  for number in range(first + 1, failure.update):
    state, metrics = step(state, phase.batches.place(build(number - 1)), frozen, key)
    values = _values(metrics)
    if not _is_finite(values):
      return outcome(number, values)
  placed, accumulation = phase.batches.place(batch), phase.training.accumulation
  found = examine(phase.parts, definition, accumulation, state, placed, frozen, key)
  values = _values(step(state, placed, frozen, key)[1])  # which takes the state
  return outcome(None if _is_finite(values) else failure.update, values)._replace(
    found=found, rows=rows_of(phase.parts, found.said, batch)
  )


def _batch(run: Run, phase: TrainingPhase, failure: Failure) -> tuple[Any, str]:
  """The batch of the failed update, and what is to be known of where it is from."""
  rebuilt = phase.batches.build(failure.update - 1)
  if failure.processes > 1:
    return rebuilt, (
      f"{failure.processes} processes kept their own rows; the batch is built from the data again."
    )
  kept = read_batch(run.directory, phase.player, rebuilt)
  if same_arrays(kept, rebuilt):
    return kept, ""
  return kept, (
    "The batch is not the one that the data gives now: it was damaged in memory, or the round's"
    " samples were made anew since."
  )


def _state_before(run: Run, phase: TrainingPhase, update: int) -> TrainState:
  """The newest state before an update that a good checkpoint has; else the phase's first."""
  definition = run.models.of(phase.player)
  place, abstract = (
    run.directory.checkpoints(phase.player.name),
    abstract_state(definition, phase.optimizer),
  )
  state = load_state(place, abstract, before=update)
  return init_state(definition, phase.optimizer, phase.start()) if state is None else state


def _values(metrics: Mapping[str, jax.Array]) -> dict[str, float]:
  return {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}


def _is_finite(values: Mapping[str, float]) -> bool:
  return all(map(math.isfinite, values.values()))
