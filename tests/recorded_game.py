"""A game that notes what each of its phases reads: of the config, of models, of other phases."""

import collections
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apo_jax import game
from apo_jax.config.schema import Config
from apo_jax.run import checking, run
from apo_jax.run.adoption import BESIDE
from apo_jax.run.phase_inputs import PhaseName
from apo_jax.run.players import Player, Players
from apo_jax.run.run import Run

# What the setup makes of the config for phases to read, and the function that does, where it is
# looked up.
PARTS = {
  "origins": (checking, "find_origins"),
  "models": (run, "make_models"),
  "inference": (run, "make_inference"),
}


@dataclasses.dataclass
class Reads:
  """What was read, by the phase that read it; the config also by the part that is made from it.

  Attributes:
    fields: dotted paths: of the config, or behind "models.", "origins." and "inference.".
    players: whose parameters.
    files: round and name of files of rounds.
  """

  now: PhaseName | str | None = None
  fields: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(set))
  players: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(set))
  files: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(set))

  def note(self, path: str) -> None:
    if self.now is not None:
      self.fields[self.now].add(path)


def recording(value: Any, note: Callable[[str], None], path: str = "") -> Any:
  """The same dataclass, which notes what is read of it, sections of it too.

  What is chosen is noted as a whole. To be hashed or compared is to be read whole.
  """
  names = [field.name for field in dataclasses.fields(value)]
  has_values = type(value).__eq__ is not object.__eq__

  def note_all() -> None:
    for name in names:
      inner = object.__getattribute__(value, name)
      if is_section(inner):
        hash(recording(inner, note, f"{path}{name}."))
      else:
        note(f"{path}{name}")

  class Recording(type(value)):
    def __getattribute__(self, name: str) -> Any:
      found = object.__getattribute__(self, name)
      if name in names and not is_section(found):
        note(f"{path}{name}")
      return found

    def __hash__(self) -> int:
      if not has_values:
        return object.__hash__(self)
      note_all()
      # As a dataclass does. It may be a changed copy (`dataclasses.replace`).
      return hash(tuple(object.__getattribute__(self, name) for name in names))

    def __eq__(self, other: object) -> bool:
      if not has_values:
        return self is other
      return hash(self) == hash(other)

  made = object.__new__(Recording)
  for name in names:
    inner = getattr(value, name)
    wrapped = recording(inner, note, f"{path}{name}.") if is_section(inner) else inner
    object.__setattr__(made, name, wrapped)
  return made


def is_section(value: Any) -> bool:
  """Whether it is a section of a config, not a leaf."""
  kinds = {kind.__module__ for kind in type(value).__mro__}
  return dataclasses.is_dataclass(value) and Config.__module__ in kinds


def play(config: Config, run_dir: Path, **options: Any) -> Reads:
  """Plays a game as `game.play` does; returns what its phases read."""
  reads = Reads()
  listed = game.phases
  wrapped: list[Run] = []

  def judged(path: str) -> str:
    return "testing_reward" if path == "reward" else path

  def recorded_run(run: Run) -> Run:
    if not wrapped:
      origins = recording(run.models.origins, lambda path: reads.note(f"origins.{path}"))
      models = dataclasses.replace(run.models, origins=origins)
      recorded_models = recording(models, lambda path: reads.note(f"models.{path}"))
      if models.judging is not models:  # where the judge's model is called the reward model's
        judging = recording(models.judging, lambda path: reads.note(f"models.{judged(path)}"))
        vars(recorded_models)["judging"] = judging
      wrapped.append(
        dataclasses.replace(
          run,
          models=recorded_models,
          inference=recording(run.inference, lambda path: reads.note(f"inference.{path}")),
          players=Players(config),  # who plays against whom is said by the phases that are read
        )
      )
    return wrapped[0]

  def noting(part: str, make: Callable[..., Any]) -> Callable[..., Any]:
    def made(*arguments: Any) -> Any:
      reads.now = part
      try:
        return make(*arguments)
      finally:
        reads.now = None

    return made

  def phases(config: Config) -> list[game.Phase]:
    return [dataclasses.replace(phase, play=recorded(phase)) for phase in listed(config)]

  def recorded(phase: game.Phase) -> Callable[[Run], None]:
    def play(run: Run) -> None:
      of = run.parameters.of

      def noted(player: Player) -> Any:
        reads.players[phase.name].add(player)
        return of(player)

      reads.now = phase.name
      run.parameters.of = noted
      try:
        phase.play(recorded_run(run))
      finally:
        del run.parameters.of
        reads.now = None

    return play

  with pytest.MonkeyPatch.context() as patch, opened_under(run_dir / "rounds", reads):
    patch.setattr(game, "phases", phases)
    for part, (module, name) in PARTS.items():
      patch.setattr(module, name, noting(part, getattr(module, name)))
    game.play(recording(config, reads.note), run_dir, **options)
  return reads


@contextlib.contextmanager
def opened_under(rounds: Path, reads: Reads) -> Iterator[None]:
  """Notes files of rounds that are opened to be read, while the block runs."""
  active = [True]

  def opened(event: str, arguments: tuple) -> None:
    if active and event == "open" and isinstance(reads.now, PhaseName):
      path, mode, _ = arguments
      if mode == "r" and str(path).startswith(f"{rounds}/"):
        reads.files[reads.now].add((int(Path(path).parent.name), Path(path).name))

  sys.addaudithook(opened)  # which cannot be taken back
  try:
    yield
  finally:
    active.clear()


def writers(round: int, file: str) -> set[PhaseName]:
  """The phases that write a file of a round."""
  beside = {PhaseName(round, result) for result, names in BESIDE.items() if file in names}
  return {PhaseName(round, file), *beside}
