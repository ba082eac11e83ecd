"""Checkpoints by Orbax: a directory a training phase, a sub-directory a step.

A step holds three parts, so that each can be read alone:

  parameters  the player's trained parameters: with adapters, not those that stay frozen
  optimizer   the optimizer's state and the step
  input       the position in the input

No random state is needed: every key is derived from the config's seed and the step.

Everything is restored onto the shardings asked for, whatever mesh wrote it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from orbax.checkpoint import v1 as ocp

from apo_jax.models.definition import Definition, Parameters
from apo_jax.training.optimization import TrainState


class Restored(NamedTuple):
  """A training phase as its newest checkpoint left it."""

  state: TrainState
  input_position: dict[str, Any]


class PhaseCheckpoints:
  """The checkpoints of one training phase; saves run in the background."""

  def __init__(self, checkpointer: ocp.training.Checkpointer):
    self._checkpointer = checkpointer

  def save(self, state: TrainState, step: int, input_position: dict[str, Any]) -> None:
    """Starts a save; arrays are copied off the devices before this returns.

    A step that is already there is left as it is: it holds the same values.
    """
    if any(checkpoint.step == step for checkpoint in self._checkpointer.checkpoints):
      return
    self._checkpointer.save_checkpointables_async(
      step,
      {
        "parameters": state.parameters,
        "optimizer": {"step": state.step, "state": state.optimizer_state},
        "input": input_position,
      },
      force=True,
    )

  def restore(self, abstract: TrainState) -> Restored | None:
    """The newest checkpoint on the shardings of `abstract`, or None where there is none."""
    if self._checkpointer.latest is None:
      return None
    loaded = self._checkpointer.load_checkpointables(
      None,
      {
        "parameters": abstract.parameters,
        "optimizer": {"step": abstract.step, "state": abstract.optimizer_state},
        "input": None,
      },
    )
    optimizer = loaded["optimizer"]
    state = TrainState(optimizer["step"], loaded["parameters"], optimizer["state"])
    return Restored(state, loaded["input"])


@contextlib.contextmanager
def open_phase(directory: Path, *, keep: int) -> Iterator[PhaseCheckpoints]:
  """The checkpoints in `directory`, of which the newest `keep` stay; leaving waits for saves."""
  policy = ocp.training.preservation_policies.LatestN(keep)
  with ocp.training.Checkpointer(
    directory.absolute(), preservation_policy=policy, cleanup_tmp_directories=True
  ) as checkpointer:
    yield PhaseCheckpoints(checkpointer)


def load_parameters(directory: Path, definition: Definition) -> Parameters:
  """The trained parameters of the newest checkpoint in `directory`, on the definition's shardings.

  Raises:
    FileNotFoundError: there is no checkpoint.
  """
  with ocp.training.Checkpointer(directory.absolute()) as checkpointer:
    if checkpointer.latest is None:
      raise FileNotFoundError(f"There is no checkpoint in {directory}.")
    loaded = checkpointer.load_checkpointables(None, {"parameters": definition.trained})
  return loaded["parameters"]
