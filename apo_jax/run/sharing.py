"""Phases that runs share: played by one of them, taken over by the others.

A folder holds finished phases by their keys (`phase_inputs`), each as a small run directory:

    KEY/phase.json, rounds/, checkpoints/, metrics.jsonl
    locks/KEY       held by the run that plays the phase or takes it over, and names it

A run that comes to a phase takes its lock first. So no two runs play one phase at once, whether one
command started them or a cluster's job array, and when a run dies, the next one plays the phase.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import jax

from apo_jax.config.fields import ConfigError
from apo_jax.config.folders import check_folder
from apo_jax.config.schema import Config
from apo_jax.data.tokens import Codec
from apo_jax.devices.cores import usable_cores
from apo_jax.devices.processes import of_the_first
from apo_jax.logs import files
from apo_jax.logs.locks import holder_of, try_lock
from apo_jax.logs.places import Place, find_path, is_bucket
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.adoption import copy_phase, phase_metrics
from apo_jax.run.models import Models
from apo_jax.run.phase_inputs import PhaseName, Surroundings, phase_keys
from apo_jax.run.records import find_damage, record_phase

_SECONDS_BETWEEN_LOOKS = 1.0
_WAIT, _TAKE, _PLAY = range(3)
_ENTRY = "phase.json"
PACKAGE = Path(__file__).resolve().parent.parent


class SharedPhases:
  """The shared phases as one run sees them.

  Args:
    folder: where they are.
    directory: of the run.
    keys: of its phases (`phase_keys`).
    recipes: the same of its config alone.
    say: tells people a sentence.
  """

  def __init__(
    self,
    folder: Path,
    directory: RunDirectory,
    keys: Mapping[PhaseName, str],
    recipes: Mapping[PhaseName, str],
    say: Callable[[str], None],
  ):
    self._folder = folder
    self._directory = directory
    self._keys = keys
    self._recipes = recipes
    self._say = say

  @contextlib.contextmanager
  def turn(self, name: PhaseName) -> Iterator[RunDirectory | None]:
    """Waits until no other run plays this phase; nobody else does while the block runs.

    Yields:
      where the finished phase is, to be taken over; None where this run is to play it, which is
      shared when the block ends without an exception.
    """
    is_writer = jax.process_index() == 0
    with contextlib.ExitStack() as held:
      waited = False
      while True:
        verdict = of_the_first(self._look(name, held, waited) if is_writer else _WAIT)
        if verdict != _WAIT:
          break
        waited = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)
      yield RunDirectory(self._entry(name)) if verdict == _TAKE else None
      if verdict == _PLAY and is_writer:
        self._share(name)

  def origin(self, name: PhaseName) -> str:
    """The run that played a finished phase."""
    return files.read_json(self._entry(name) / _ENTRY)["run"]

  def _entry(self, name: PhaseName) -> Path:
    return self._folder / self._keys[name]

  def _look(self, name: PhaseName, held: contextlib.ExitStack, waited: bool) -> int:
    """What is to be done about a phase; unless that is waiting, its lock is kept in `held`."""
    place = lock_of(self._entry(name))
    lock = try_lock(place, f"{self._directory} (process {os.getpid()} of {os.uname().nodename})")
    if lock is None:
      if not waited:
        self._say(f"{name.words}: waits for {holder_of(place)}, which plays it.")
      return _WAIT
    held.enter_context(lock)
    if not (self._entry(name) / _ENTRY).exists():
      return _PLAY
    damage = find_damage(RunDirectory(self._entry(name)), [name], None)
    for one in damage:
      self._say(f"{one.sentence} It is shared no longer, and played again.")
    return _PLAY if damage else _TAKE

  def _share(self, name: PhaseName) -> None:
    """Adds a phase that this run has just played; it appears whole or not at all."""
    made = self._folder / f".{uuid.uuid4().hex}"
    copy_phase(self._directory, RunDirectory(made), name)
    files.write_jsonl(RunDirectory(made).metrics, phase_metrics(self._directory, name))
    record_phase(RunDirectory(made), name)
    entry = {**name._asdict(), "run": str(self._directory), "recipe": self._recipes[name]}
    files.write_json(made / _ENTRY, entry)
    # What an interrupted `drop_unneeded` left is no phase.
    shutil.rmtree(self._entry(name), ignore_errors=True)
    os.rename(made, self._entry(name))


def check_sharing(folder: Path, run_dir: Place) -> None:
  """Checks that a run can share phases in a folder; it is not made.

  Raises:
    ConfigError: the folder can be no directory that is written, or the run lies in a bucket: phases
      are linked and renamed, which a bucket cannot.
  """
  if is_bucket(run_dir):
    raise ConfigError(
      f"--share is given, but --run_dir is {str(run_dir)!r}; runs that share phases must lie in the"
      " file system."
    )
  check_folder("--share", find_path(folder, "--share"))


def make_folder(folder: Path) -> None:
  """Makes the folder of shared phases.

  Raises:
    ConfigError: it cannot be made.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ConfigError(f"--share is {str(folder)!r}, which cannot be used: {error}") from error


def shared_phases(
  folder: Path,
  config: Config,
  models: Models,
  codec: Codec,
  directory: RunDirectory,
  say: Callable[[str], None],
) -> SharedPhases:
  """The shared phases in a folder, for a run that is set up."""
  keys = phase_keys(config, surroundings(models, codec, directory))
  return SharedPhases(folder, directory, keys, phase_keys(config), say)


def lock_of(entry: Path) -> Path:
  """The lock file of a shared phase."""
  return entry.parent / "locks" / entry.name


def surroundings(models: Models, codec: Codec, directory: RunDirectory) -> Surroundings:
  """What the results of a run depend on beside its config.

  The code is a hash of the whole package: a version number stays while code is worked on.
  """
  device = models.mesh.devices.flat[0]
  return Surroundings(
    models.origins.fingerprints,
    {
      "data": files.read_json(directory.data)["sha256"],
      "tokenizer": _sha256_of(directory.tokenizer, "*.json"),
      "ids": [codec.size, sorted(codec.ends), sorted(codec.never_drawn)],
      "code": code_sha256(),
      "jax": [importlib.metadata.version(name) for name in ("jax", "jaxlib")],
      "compiler": os.environ.get("XLA_FLAGS", ""),
      "devices": [device.platform, device.device_kind],
      # On CPUs, sums are split over cores, and rounded accordingly.
      "cores": len(usable_cores()) if device.platform == "cpu" else None,
      "mesh": dict(models.mesh.shape),
    },
  )


def code_sha256() -> str:
  """A hash of the package's source."""
  return _sha256_of(PACKAGE, "**/*.py")


def drop_unneeded(folder: Path, needed: Collection[str]) -> None:
  """Deletes shared phases of the game's rounds whose checkpoints only this folder still holds.

  Args:
    folder: of the shared phases.
    needed: `phase_keys` of the config alone, of phases that some run is still to play; they stay,
      and so does what comes before the first round.
  """
  for path in sorted(folder.glob(f"*/{_ENTRY}")):
    entry = files.read_json(path)
    name = PhaseName(entry["round"], entry["result"])
    if not name.round or name.player is None or entry["recipe"] in needed:
      continue
    if not _is_held_alone(RunDirectory(path.parent).checkpoints(name.player.name)):
      continue
    lock = try_lock(lock_of(path.parent), f"{folder}, which drops it")
    if lock is not None:
      with lock:
        path.unlink()  # first, so that what is left is not taken for a phase
        shutil.rmtree(path.parent)


def _is_held_alone(checkpoints: Path) -> bool:
  """Whether there is a checkpoint, of which no other directory has a link."""
  held = [path.stat().st_nlink for path in checkpoints.rglob("*") if path.is_file()]
  return bool(held) and max(held) == 1


def _sha256_of(directory: Path, pattern: str) -> str:
  """A hash of the files that a pattern finds, by their names and contents."""
  found = hashlib.sha256()
  for path in sorted(directory.glob(pattern)):
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    found.update(f"{path.relative_to(directory)} {content}\n".encode())
  return found.hexdigest()
