"""A training phase as data, and the one function that plays it."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import optax
from jaxtyping import UInt32

from apo_jax.config.schema import TrainingConfig
from apo_jax.data.input import batches
from apo_jax.logs import files
from apo_jax.logs.places import is_bucket, sizes_below
from apo_jax.logs.storage import check_room
from apo_jax.models.definition import Parameters
from apo_jax.models.parameters import size_in_bytes
from apo_jax.phases.failed_batch import LastBatches, advice, keep_batch
from apo_jax.phases.stream import Batches
from apo_jax.run.players import Player
from apo_jax.run.run import Run
from apo_jax.run.seeds import derive_key
from apo_jax.training.checkpoints import open_phase
from apo_jax.training.loop import TrainingDiverged, TrainingLog, resume, train
from apo_jax.training.optimization import (
  TrainState,
  abstract_state,
  init_state,
  make_optimizer,
)
from apo_jax.training.update import LossParts, Metrics, Update

# One for all rounds, as compiled steps are. Without updates there is no need of moments, which take
# twice the model in the checkpoint.
_optimizer = functools.lru_cache(maxsize=8)(make_optimizer)
_NO_OPTIMIZER = optax.identity()


@dataclasses.dataclass(frozen=True)
class TrainingPhase:
  """What one training phase does.

  Attributes:
    player: whom it trains; the phase and its round are the player's.
    started_from: the player it starts from, or words where it starts from none.
    training: the optimisation.
    field: of that, in a config.
    start: makes the trained parameters to start from; called where no checkpoint exists.
    make_update: the jitted step for an optimizer, one for all rounds.
    parts: what its loss is made of.
    batches: what it is trained on. The learning rate's schedule is made for the most that there may
      be, which is as many in every round, so that all rounds share a compiled step.
  """

  player: Player
  started_from: str
  training: TrainingConfig
  field: str
  start: Callable[[], Parameters]
  make_update: Callable[[optax.GradientTransformation], Update]
  parts: LossParts
  batches: Batches

  @property
  def optimizer(self) -> optax.GradientTransformation:
    """The very same for equal phases."""
    return _optimizer(self.training, self.batches.most) if self.batches.number else _NO_OPTIMIZER

  def step_key(self, seed: int) -> UInt32[np.ndarray, "2"]:
    """What the randomness of its steps is derived from (`make_update`)."""
    return derive_key(seed, "dropout", self.player.round, self.player.phase)


def play(run: Run, phase: TrainingPhase) -> None:
  """Trains the phase's player, or what a stopped process left of it, and records the outcome.

  Leaves a checkpoint, the parameters in `run`, and `rounds/NN/PHASE.json`, written last.

  Raises:
    TrainingDiverged: a loss or gradient is not finite; its batch is kept, and the sentence says
      what can be done.
  """
  began = time.monotonic()
  config, player, definition = run.config, phase.player, run.models.of(phase.player)
  number, _, build, place = phase.batches
  optimizer, step_key = phase.optimizer, phase.step_key(config.seed)
  step = phase.make_update(optimizer)
  inputs = batches(number, build)

  def start() -> TrainState:
    state = init_state(definition, optimizer, phase.start())
    run.parameters.park_idle(definition)  # what it was made from
    return state

  run.parameters.park_idle(definition)
  title = f"round {player.round} {player.phase}" if player.round else player.phase
  with (
    run.logs.progress.phase(title.replace("_", " "), number) as progress,
    open_phase(run.directory.checkpoints(player.name), keep=config.checkpoints.keep) as checkpoints,
  ):
    abstract = abstract_state(definition, optimizer)
    _check_room(run, player, abstract)
    state = resume(checkpoints, abstract, start, inputs, run.logs.progress.message)
    frozen = run.parameters.frozen(definition)
    last = LastBatches(int(state.step))

    def update(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
      last.add(batch)
      return step(state, place(batch), frozen, step_key)

    try:
      state = train(
        update,
        state,
        inputs,
        number,
        checkpoints=checkpoints,
        save_every=config.checkpoints.every_steps,
        log=TrainingLog(
          progress,
          run.logs.metrics,
          player.round,
          player.phase,
          config.logging.every_steps,
          phase.training.clip_norm,
        ),
      )
    except TrainingDiverged as diverged:
      raise _explained(run, phase, diverged, last) from diverged
  run.parameters.remember(player, state.parameters)
  if run.logs.is_writer:
    files.write_json(
      run.directory.round(player.round) / f"{player.phase}.json",
      {
        "player": player.name,
        "started_from": phase.started_from,
        "updates": number,
        "seconds": time.monotonic() - began,
        # Compilation included; null where no update was left to make.
        "seconds_to_first_update": progress.first_seconds,
      },
    )


def _explained(
  run: Run, phase: TrainingPhase, diverged: TrainingDiverged, last: LastBatches
) -> TrainingDiverged:
  """Keeps the batch of an update that gave no number, and says what can be done."""
  step, metrics = diverged.step, diverged.metrics
  said = advice(run.directory, phase.player, phase.training, phase.field)
  try:
    keep_batch(run.directory, phase.player, step, metrics, last.of(step))
  except OSError as error:  # no reason to hide what has happened
    said = f"Its batch could not be kept: {error}."
  return TrainingDiverged(f"{diverged} {said}", step, metrics)


def _check_room(run: Run, player: Player, state: TrainState) -> None:
  """Checks that the phase's checkpoints have room: those that stay, and one that is being written.

  Raises:
    ConfigError: they have not.
  """
  directory = run.directory.checkpoints(player.name)
  if is_bucket(directory):
    return
  there = sum(sizes_below(directory).values())
  size = int(size_in_bytes({"state": state}))
  needed = size * (run.config.checkpoints.keep + 1) - there
  what = f"what phase {player.phase} of round {player.round} keeps as checkpoints"
  check_room(run.directory.path, needed, what)
