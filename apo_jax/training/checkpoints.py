"""Checkpoints by Orbax: a directory a training phase, a sub-directory a step.

A step holds four parts, so that each can be read alone:

  parameters  the player's trained parameters: with adapters, not those that stay frozen
  optimizer   the optimizer's state and the step
  input       the position in the input
  checksums   of all of them, by part and array (training/checksums.py)

No random state is needed: every key is derived from the config's seed and the step.

Everything is restored onto the shardings asked for, whatever mesh wrote it. What cannot be read, or
is not what was written, is damaged: a phase that goes on drops such a step and takes the one before
it, and nobody else reads it.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from apo_jax.config.fields import ConfigError
from apo_jax.devices import interrupts
from apo_jax.devices.processes import any_process
from apo_jax.logs.places import Place, absolute
from apo_jax.models.definition import Definition, Parameters
from apo_jax.training.checksums import checksums
from apo_jax.training.optimization import TrainState


class DamagedCheckpoint(ConfigError):
  """A step that cannot be read, or is not what was written; the message is a sentence."""


class Restored(NamedTuple):
  """A training phase as a checkpoint left it.

  Attributes:
    state: None where there is no checkpoint that can be used.
    input_position: of that state.
    damaged: a sentence for each later step that could not be used, and is dropped.
  """

  state: TrainState | None
  input_position: dict[str, Any]
  damaged: tuple[str, ...]


class PhaseCheckpoints:
  """The checkpoints of one training phase; saves run in the background."""

  def __init__(self, checkpointer: ocp.training.Checkpointer, directory: Place):
    self._checkpointer = checkpointer
    self._directory = directory
    self._saving: Any = None

  def save(self, state: TrainState, step: int, input_position: dict[str, Any]) -> None:
    """Starts a save; arrays are copied off the devices before this returns.

    A step that is already there is left as it is: it holds the same values.
    """
    if any(checkpoint.step == step for checkpoint in self._checkpointer.checkpoints):
      return
    parts = _parts(state, input_position)
    self.wait()
    self._saving = self._checkpointer.save_checkpointables_async(
      step, {**parts, "checksums": _as_arrays(_checksums(parts))}, force=True
    )

  def wait(self) -> None:
    """Waits for the save under way, if there is one, and raises what it failed with.

    Orbax keeps a thread and three file descriptors for each save until it is asked how that ended.
    """
    saving, self._saving = self._saving, None
    if saving is not None:
      saving.result()

  def restore(self, abstract: TrainState) -> Restored:
    """The newest checkpoint that is as it was written, on the shardings of `abstract`.

    Later ones are deleted: the same steps will be written again.
    """
    damaged: list[str] = []
    for checkpoint in sorted(self._checkpointer.checkpoints, key=lambda one: -one.step):
      wanted = _parts(abstract, None)
      try:
        loaded = _load(self._checkpointer, self._directory, checkpoint.step, wanted)
      except DamagedCheckpoint as error:
        damaged.append(str(error))
        self._checkpointer.delete(checkpoint.step)
        continue
      optimizer = loaded["optimizer"]
      state = TrainState(optimizer["step"], loaded["parameters"], optimizer["state"])
      return Restored(state, loaded["input"], tuple(damaged))
    return Restored(None, {}, tuple(damaged))


@contextlib.contextmanager
def open_phase(directory: Place, *, keep: int) -> Iterator[PhaseCheckpoints]:
  """The checkpoints in `directory`, of which the newest `keep` stay; leaving waits for saves."""
  policy = ocp.training.preservation_policies.LatestN(keep)
  with ocp.training.Checkpointer(
    absolute(directory), preservation_policy=policy, cleanup_tmp_directories=True
  ) as checkpointer:
    checkpoints = PhaseCheckpoints(checkpointer, directory)
    try:
      yield checkpoints
    finally:
      checkpoints.wait()


def load_state(directory: Place, abstract: TrainState, before: int) -> TrainState | None:
  """The state of the newest good checkpoint of less than `before` updates; nothing is written.

  Args:
    directory: the phase's.
    abstract: shapes, types and shardings.
    before: updates.

  Returns:
    None where there is no such checkpoint.
  """
  if not directory.is_dir():
    return None
  with ocp.training.Checkpointer(absolute(directory)) as checkpointer:
    steps = sorted((checkpoint.step for checkpoint in checkpointer.checkpoints), reverse=True)
    wanted = {name: part for name, part in _parts(abstract, None).items() if name != "input"}
    for step in steps:
      if step >= before:
        continue
      with contextlib.suppress(DamagedCheckpoint):
        loaded = _load(checkpointer, directory, step, wanted)
        optimizer = loaded["optimizer"]
        return TrainState(optimizer["step"], loaded["parameters"], optimizer["state"])
  return None


def load_parameters(directory: Place, definition: Definition, step: int) -> Parameters:
  """The trained parameters of a step's checkpoint, on the definition's shardings.

  Args:
    directory: the phase's.
    definition: the player's model.
    step: the phase's last update. Where its checkpoint is gone, no other stands for it.

  Raises:
    DamagedCheckpoint: it is not there, cannot be read, or is not what was written.
  """
  with ocp.training.Checkpointer(absolute(directory)) as checkpointer:
    steps = [checkpoint.step for checkpoint in checkpointer.checkpoints]
    if step not in steps:
      found = f"those of {', '.join(map(str, steps))}" if steps else "none"
      raise DamagedCheckpoint(
        f"{directory} has no checkpoint of update {step}, its phase's last, but {found}."
      )
    wanted = {"parameters": definition.trained}
    return _load(checkpointer, directory, step, wanted)["parameters"]


def _parts(state: TrainState, input_position: dict[str, Any] | None) -> dict[str, Any]:
  return {
    "parameters": state.parameters,
    "optimizer": {"step": state.step, "state": state.optimizer_state},
    "input": input_position,
  }


def _checksums(parts: dict[str, Any]) -> dict[str, dict[str, str]]:
  """Of the arrays of each part, and of the input's position as a whole."""
  return {
    name: {"all": _json_hash(part)} if name == "input" else checksums(part)
    for name, part in parts.items()
  }


def _as_arrays(checksums: dict[str, dict[str, str]]) -> dict[str, dict[str, np.ndarray]]:
  """The same as bytes, UInt8[N]: Orbax warns of a part that holds no array."""
  return jax.tree.map(lambda text: np.frombuffer(bytes.fromhex(text), np.uint8), checksums)


def _json_hash(value: Any) -> str:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _load(
  checkpointer: ocp.training.Checkpointer, directory: Place, step: int, wanted: dict[str, Any]
) -> dict[str, Any]:
  """The parts of a step that are asked for, found to be what was written.

  Raises:
    DamagedCheckpoint: on all processes alike, where one of them has cause to.
  """
  problem, loaded = "", {}
  try:
    for part, abstract in {**wanted, "checksums": None}.items():
      # One by one: of several, Orbax would leave those behind a damaged one half begun.
      loaded |= checkpointer.load_checkpointables(step, {part: abstract})
    problem = _difference(loaded)
  # Whatever was done to a file comes as some exception of Orbax, TensorStore or Python.
  except Exception as error:
    interrupts.check()  # Orbax turns an interruption into an error of its own
    problem = f"cannot be read: {_first_line(error)}"
  if any_process(bool(problem)):
    problem = problem or "cannot be read by another process"
    raise DamagedCheckpoint(f"The checkpoint {directory / str(step)} {problem}.")
  return loaded


def _difference(loaded: dict[str, Any]) -> str:
  """What is not as it was written, behind the checkpoint's name; empty where all is."""
  written = jax.tree.map(lambda array: bytes(np.asarray(array)).hex(), loaded["checksums"])
  for part, found in _checksums({k: v for k, v in loaded.items() if k != "checksums"}).items():
    for path, checksum in found.items():
      if written[part].get(path) != checksum:
        where = part if part == "input" else f"{part}{path}"
        return f"is damaged: the checksum of {where} is not the one it was written with"
  return ""


def _first_line(error: Exception, length: int = 200) -> str:
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0].strip().rstrip(".:")[:length]
