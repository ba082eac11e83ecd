"""A training phase as data, and the one function that carries it out."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import optax

from apo_jax.config.schema import TrainingConfig
from apo_jax.data.input import batches
from apo_jax.logs import files
from apo_jax.models.definition import Definition, Parameters
from apo_jax.run.players import Player
from apo_jax.run.run import Run
from apo_jax.run.seeds import derive_key
from apo_jax.training.checkpoints import open_phase
from apo_jax.training.loop import train
from apo_jax.training.optimization import (
  Metrics,
  TrainState,
  Update,
  abstract_state,
  init_state,
  make_optimizer,
)


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
  """What one training phase does.

  Attributes:
    player: whom it trains; its round and phase are the player's.
    started_from: the player it starts from, or words where it starts from none.
    definition: the model.
    training: the optimisation.
    num_steps: updates.
    schedule_steps: updates that the learning rate's schedule is made for, at least `num_steps`; as
      many in every round, so that all rounds share a compiled step.
    start: makes the trained parameters to start from; called where no checkpoint exists.
    make_update: makes the jitted step for an optimizer; one for all rounds.
    build: the host batch of an update, counted from 0: this process's rows as NumPy arrays.
    place: puts a host batch onto the devices.
  """

  player: Player
  started_from: str
  definition: Definition
  training: TrainingConfig
  num_steps: int
  schedule_steps: int
  start: Callable[[], Parameters]
  make_update: Callable[[optax.GradientTransformation], Update]
  build: Callable[[int], Any]
  place: Callable[[Any], Any]


# One for all rounds, as compiled steps are.
_NO_OPTIMIZER = optax.identity()
_optimizer = functools.lru_cache(make_optimizer)


def carry_out(run: Run, plan: TrainingPlan) -> None:
  """Trains the plan's player, or what a stopped process left of it, and records the outcome.

  Leaves a checkpoint, the parameters in `run`, and `rounds/NN/<phase>.json`, written last.
  """
  began = time.monotonic()
  config, player = run.config, plan.player
  # Without updates there is no need of moments, which take twice the model in the checkpoint.
  optimizer = _NO_OPTIMIZER
  if plan.num_steps:
    optimizer = _optimizer(plan.training, plan.schedule_steps)
  update = plan.make_update(optimizer)
  if plan.definition.lora is not None:
    frozen = functools.partial(run.parameters.frozen, plan.definition)
    seed = derive_key(config.seed, "dropout", player.round, player.phase)
    update = functools.partial(_with_adapters, update, frozen, seed)

  def start() -> TrainState:
    state = init_state(plan.definition, optimizer, plan.start())
    run.parameters.park_idle(plan.definition)  # what it was made from
    return state

  run.parameters.park_idle(plan.definition)
  name = f"round {player.round} {player.phase}" if player.round else player.phase
  with (
    run.logs.progress.phase(name.replace("_", " "), plan.num_steps) as progress,
    open_phase(
      run.directory.checkpoints(player.name), seed=config.seed, keep=config.checkpoints.keep
    ) as checkpoints,
  ):
    state = train(
      update,
      start,
      abstract_state(plan.definition, optimizer),
      batches(plan.num_steps, plan.build),
      plan.place,
      plan.num_steps,
      checkpoints=checkpoints,
      save_every=config.checkpoints.every_steps,
      progress=progress,
      writer=run.logs.metrics,
      log_every=config.logging.every_steps,
      round=player.round,
      phase=player.phase,
    )
  run.parameters.remember(player, state.parameters)
  if run.logs.is_writer:
    files.write_json(
      run.directory.round(player.round) / f"{player.phase}.json",
      {
        "player": player.name,
        "started_from": plan.started_from,
        "updates": plan.num_steps,
        "seconds": time.monotonic() - began,
        # Compilation included; null where no update was left to make.
        "seconds_to_first_update": progress.first_seconds,
      },
    )


def _with_adapters(
  update: Update,
  frozen: Callable[[], Parameters],
  seed: np.ndarray,
  state: TrainState,
  batch: Any,
) -> tuple[TrainState, Metrics]:
  return update(state, batch, frozen(), seed)
