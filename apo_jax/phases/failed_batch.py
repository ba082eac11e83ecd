"""The batch whose update gave no number, kept to be looked at, and what is said of it.

    failed/NN_PLAYER/failure.json      where it happened, and the update's metrics
    failed/NN_PLAYER/rows_0.npz        the batch's arrays, each process its own rows

Parameters are not kept: the checkpoints before it and the data give the very state again.
"""

import io
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import TrainingConfig
from apo_jax.logs.files import read_json, write_bytes, write_json
from apo_jax.logs.places import is_bucket
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.players import Player

_FAILURE = "failure.json"


class Failure(NamedTuple):
  """An update that gave no number.

  Attributes:
    round: the round.
    phase: the training phase.
    update: counted from 1.
    metrics: of the update, as Python writes floats, which JSON could not: "nan" and "inf" too.
    processes: how many there were; each has kept its own rows.
    time: seconds since 1970.
  """

  round: int
  phase: str
  update: int
  metrics: Mapping[str, str]
  processes: int
  time: float


class LastBatches:
  """The host batches of the last two updates: metrics are read one update late.

  Args:
    made: updates that had been made before.
  """

  def __init__(self, made: int):
    self._made = made
    self._held: dict[int, Any] = {}

  def add(self, batch: Any) -> None:
    """Holds the batch of the next update."""
    self._made += 1
    self._held[self._made] = batch
    self._held.pop(self._made - 2, None)

  def of(self, update: int) -> Any:
    """The batch of one of the last two updates, counted from 1."""
    return self._held[update]


def keep_batch(
  directory: RunDirectory, player: Player, update: int, metrics: Mapping[str, float], batch: Any
) -> None:
  """Keeps a batch, of which every process has its own rows.

  Args:
    directory: of the run.
    player: whom it trained.
    update: counted from 1.
    metrics: of the update.
    batch: a pytree of arrays of the host.

  Raises:
    OSError: it cannot be written.
  """
  place, written = directory.failed / player.name, io.BytesIO()
  np.savez(written, **_by_name(batch))
  write_bytes(place / _rows(jax.process_index()), written.getvalue())
  if jax.process_index() == 0:  # last, as it says that there is one
    said = {name: repr(float(value)) for name, value in metrics.items()}
    processes = jax.process_count()
    failure = Failure(player.round, player.phase, update, said, processes, time.time())
    write_json(place / _FAILURE, failure._asdict())


def last_failure(directory: RunDirectory) -> Failure:
  """The newest failure of a run.

  Raises:
    ConfigError: there is none, or what is kept of it cannot be read.
  """
  found = []
  for path in sorted(directory.failed.glob(f"*/{_FAILURE}")):
    try:
      found.append(Failure(**read_json(path)))
    except (OSError, TypeError, ValueError) as error:
      raise ConfigError(f"{path} cannot be read: {error}") from error
  if not found:
    raise ConfigError(
      f"--run is {str(directory)!r}, which keeps no failed batch: no loss or gradient of it has"
      " stopped being a number."
    )
  return max(found, key=lambda failure: failure.time)


def read_batch(directory: RunDirectory, player: Player, like: Any) -> Any:
  """The batch that was kept of a player's training, this process's rows.

  Args:
    directory: of the run.
    player: whom it trained.
    like: a batch of that phase, for the names and the structure.

  Raises:
    ConfigError: it is gone, damaged, or of another phase.
  """
  path = directory.failed / player.name / _rows(jax.process_index())
  try:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
  # A damaged archive comes as some error of zipfile, zlib or NumPy.
  except Exception as error:
    raise ConfigError(f"{path}, the failed batch, cannot be read: {error}") from error
  names = _by_name(like)
  if arrays.keys() != names.keys():
    raise ConfigError(
      f"{path} holds {', '.join(arrays) or 'nothing'}; a batch of {player.phase} holds"
      f" {', '.join(names)}."
    )
  return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in names])


def same_arrays(batch: Any, other: Any) -> bool:
  """Whether two batches of one structure hold the very same numbers, NaN for NaN."""
  pairs = zip(jax.tree.leaves(batch), jax.tree.leaves(other), strict=True)
  return all(
    one.shape == two.shape and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
    for one, two in ((np.asarray(one), np.asarray(two)) for one, two in pairs)
  )


def advice(directory: RunDirectory, player: Player, training: TrainingConfig, field: str) -> str:
  """What can be done where a player's training has diverged: one or two sentences, with commands.

  Args:
    directory: of the run.
    player: whom it trained.
    training: its optimisation.
    field: of that, in a config.
  """
  replay = command("replay", [f"--run={directory}"])
  said = f"Its batch is kept: `{replay}` runs it alone."
  lower = f"{field}.learning_rate={training.learning_rate / 10:.2g}"
  if not player.round:
    return (
      f"{said} Before the first round there is nothing to branch from: start another run, such as"
      f" with --{lower}, or a smaller {field}.clip_norm."
    )
  before = player.round - 1
  # A branch is made in the file system.
  beside = directory.path.name if is_bucket(directory.path) else directory
  new = f"{beside}-from-{before}"
  flags = [f"--run={directory}", f"--from={before}", f"--run_dir={new}", f"--{lower}"]
  return (
    f"{said} A smaller learning rate or a smaller clip_norm may help:"
    f" `{command('branch', flags)}` begins a new run from round {before}."
  )


def command(name: str, flags: Sequence[str]) -> str:
  """A command of the package as it is typed."""
  return shlex.join(["python", "-m", f"apo_jax.{name}", *flags])


def _by_name(batch: Any) -> dict[str, np.ndarray]:
  leaves = jax.tree_util.tree_flatten_with_path(batch)[0]
  return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _rows(process: int) -> str:
  return f"rows_{process}.npz"
