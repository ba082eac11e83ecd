"""Metrics of a run: metrics.jsonl always, TensorBoard and Weights & Biases on request.

metrics.jsonl, or in a bucket its segments (metric_lines.py), is the record. It survives a kill (a
torn last line is dropped), and `MetricsWriter.resume` takes back what was written after the
checkpoint that a phase continues from, so that no step appears twice.

The other two back-ends want one step that only grows, while steps here start again in every phase.
Their step is the number of updates that the run had made, of all phases together. It is counted
from the lines that metrics.jsonl holds, so it is the same whether the run was interrupted or not.
"""

import importlib
import json
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, SupportsFloat

from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import json_line, write_text
from apo_jax.logs.metric_lines import PLACE, Lines, Row, open_lines
from apo_jax.logs.metric_lines import read_metrics as read_metrics  # for those who read a run
from apo_jax.logs.places import Place, is_bucket
from apo_jax.logs.run_directory import RunDirectory

# Phases that measure and make no update; the step of their one line is 1.
_MEASURING = ("score", "evaluation")


class UpdateCount:
  """The updates that a run had made at each of its lines, which come in the order of the file."""

  def __init__(self) -> None:
    self.at_last = 0  # updates at the last line, its own phase's included
    self._before = 0  # of the phases before
    self._phase: tuple[int, str] | None = None

  def at(self, round: int, phase: str, step: int) -> int:
    """The updates at the next line."""
    if (round, phase) != self._phase:
      self._phase, self._before = (round, phase), self.at_last
    self.at_last = self._before + (0 if phase in _MEASURING else step)
    return self.at_last


def _import_extra(module: str, extra: str) -> ModuleType:
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as error:
    if error.name != module:
      raise
    raise ConfigError(
      f"config.logging.{extra} is True, but the package {module} is not installed: "
      f"pip install 'apo_jax[{extra}]', or set config.logging.{extra} to False.",
    ) from error


def check_backends(tensorboard: bool, wandb: bool) -> None:
  """Checks that the packages of the chosen back-ends are installed.

  Raises:
    ConfigError: one is not.
  """
  if tensorboard:
    _import_extra("tensorboardX", "tensorboard")
  if wandb:
    _import_extra("wandb", "wandb")


class MetricsWriter:
  """Writes metrics of a run; a context manager.

  Args:
    run_dir: the run directory; the record and tensorboard/ lie in it.
    tensorboard: also write to TensorBoard, with tensorboardX.
    wandb: also write to Weights & Biases. The run's id is kept in wandb_id.txt, so a restart
      continues the same run.
    wandb_project: the Weights & Biases project.
    config: the run's configuration, shown by Weights & Biases.
    enabled: false on every process but the first; nothing is imported or written then.

  Raises:
    ConfigError: the package of a chosen back-end is not installed.

  Attributes:
    mended: lines that were broken when the file was opened, and are dropped.
    PLACE: the fields that say when and where a line's values were measured.
  """

  PLACE = PLACE

  def __init__(
    self,
    run_dir: Place,
    *,
    tensorboard: bool,
    wandb: bool,
    wandb_project: str,
    config: dict[str, Any],
    enabled: bool,
  ):
    self.mended = 0
    # The last step of every phase that there is, and the lines of one round: whoever asks for those
    # of the round under way does not read all rounds before it.
    self._steps: dict[tuple[int, str], int] = {}
    self._held: tuple[int, list[dict[str, Any]]] | None = None
    self._run_dir = run_dir
    self._enabled = enabled
    self._lines: Lines | None = None
    self._tensorboard_module = None
    self._tensorboard_writer = None
    self._tensorboard_opened = 0
    self._wandb_run = None
    if not enabled:
      return
    if tensorboard:
      self._tensorboard_module = _import_extra("tensorboardX", "tensorboard")
    wandb_module = _import_extra("wandb", "wandb") if wandb else None
    self._lines = open_lines(run_dir)
    self.mended = self._lines.mended
    self._count(self._lines.rows())
    if wandb_module is not None:
      self._wandb_run = _start_wandb(wandb_module, run_dir, wandb_project, config)

  def __enter__(self) -> "MetricsWriter":
    return self

  def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
    self.close(failed=kind is not None)

  def write(
    self, values: Mapping[str, SupportsFloat], *, round: int, phase: str, step: int
  ) -> None:
    """Adds one line to the record, and the same values to the chosen back-ends.

    Args:
      values: scalars by name. Arrays are fetched from the device here, which waits for them.
      round: the round, 0 for what comes before the first.
      phase: the phase's name; the other back-ends show a value as "phase/name".
      step: the update within the phase.

    Raises:
      ValueError: a value is named like one of the fields that every line has.
    """
    if not self._enabled:
      return
    for name in values:
      if name in self.PLACE:
        raise ValueError(
          f"A metric must not be named {name!r}: every line has a field of this name."
        )
    numbers = {name: float(value) for name, value in values.items()}
    line = {"time": time.time(), "round": round, "phase": phase, "step": step, **numbers}
    line = json.loads(json_line(line))  # as whoever reads it finds it
    self._hold(round)  # read without the line that is about to be written
    self._lines.append(line)
    self.of_round(round).append(line)
    self._steps[round, phase] = max(step, self._steps.get((round, phase), step))
    # What an earlier process wrote from here on is to be hidden, but not a measurement that is made
    # again at the last update.
    first = self._updates.at_last + 1 if self._has_lines else 0
    updates = self._updates.at(round, phase, step)
    self._has_lines = True
    if self._tensorboard_module is not None:
      self._write_tensorboard(numbers, phase, updates, first)
    if self._wandb_run is not None:
      named = {f"{phase}/{name}": number for name, number in numbers.items()}
      self._wandb_run.log({"updates": updates, "round": round, "step": step, **named})

  def sync(self) -> None:
    """Waits until all lines are safe: before a checkpoint or a result says they are made."""
    if self._lines is not None:
      self._lines.sync()

  def resume(self, *, round: int, phase: str, step: int) -> None:
    """Takes back the lines of this round and phase with a later step.

    To be called where a phase starts (step 0) or continues (the step of its checkpoint).
    A file is rewritten atomically. TensorBoard hides what it showed from there on. Weights &
    Biases cannot take values back: there the repeated steps are shown at the same place twice.
    """
    if not self._enabled or self._steps.get((round, phase), step) <= step:
      return

    def is_kept(row: Row) -> bool:
      return (row["round"], row["phase"]) != (round, phase) or row["step"] <= step

    self._lines.keep(is_kept)
    self._count(self._lines.rows())
    self._close_tensorboard()

  def of_round(self, round: int) -> list[dict[str, Any]]:
    """The lines of a round; asked for again and again, they are read once."""
    self._hold(round)
    assert self._held is not None
    return self._held[1]

  def close(self, *, failed: bool = False) -> None:
    """Closes the file and the back-ends, which may show that the run failed; twice is fine."""
    if self._lines is not None:
      self._lines.close()
      self._lines = None
    self._close_tensorboard()
    if self._wandb_run is not None:
      self._wandb_run.finish(exit_code=int(failed))
      self._wandb_run = None

  def _count(self, lines: Sequence[Mapping[str, Any]]) -> None:
    """Counts the updates of the lines that there are."""
    self._updates, self._has_lines = UpdateCount(), bool(lines)
    self._steps, self._held = {}, None
    for line in lines:
      place = line["round"], line["phase"]
      self._updates.at(*place, line["step"])
      self._steps[place] = max(line["step"], self._steps.get(place, line["step"]))

  def _hold(self, round: int) -> None:
    """Has the lines of a round at hand, of which a new one has none."""
    if self._held is None or self._held[0] != round:
      known = any(number == round for number, _ in self._steps)
      lines = self._lines.rows() if known and self._lines is not None else []
      self._held = round, [line for line in lines if line["round"] == round]

  def _write_tensorboard(
    self, numbers: Mapping[str, float], phase: str, updates: int, first: int
  ) -> None:
    if self._tensorboard_writer is None:
      # Opened at the first line, because only then it is known which steps are to be written again:
      # purge_step makes TensorBoard hide what an earlier process wrote for them.
      self._tensorboard_opened += 1
      self._tensorboard_writer = self._tensorboard_module.SummaryWriter(
        str(RunDirectory(self._run_dir).tensorboard),
        purge_step=first,
        filename_suffix=f".{self._tensorboard_opened}",
      )
    for name, number in numbers.items():
      self._tensorboard_writer.add_scalar(f"{phase}/{name}", number, global_step=updates)

  def _close_tensorboard(self) -> None:
    if self._tensorboard_writer is not None:
      self._tensorboard_writer.close()
      self._tensorboard_writer = None


def _start_wandb(wandb: ModuleType, run_dir: Place, project: str, config: dict[str, Any]) -> Any:
  """Starts or continues the Weights & Biases run of this run directory."""
  path = RunDirectory(run_dir).wandb_id
  if not path.exists():
    write_text(path, uuid.uuid4().hex)
  run = wandb.init(
    project=project,
    name=run_dir.name,
    id=path.read_text(encoding="utf-8"),
    resume="allow",
    # It writes as it likes, which a bucket does not take; what it shows is at its own place.
    dir=tempfile.mkdtemp() if is_bucket(run_dir) else str(run_dir),
    config=config,
  )
  # Its own step refuses to go back, which would lose the lines written again after a crash.
  run.define_metric("updates")
  run.define_metric("*", step_metric="updates")
  return run
