"""A run directory with damage: what is said of it, and from where on it is played again.

find_damage -> refuse_damage            a usual start
            -> mend                     one with --repair, which reads every player that is kept
"""

import contextlib
from collections.abc import Callable, Sequence

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.devices.processes import barrier
from apo_jax.logs.places import remove_tree
from apo_jax.logs.run_directory import CHECKSUMS, PROVENANCE, RunDirectory
from apo_jax.run.branched import check_taken_over
from apo_jax.run.parameters import load_last
from apo_jax.run.phase_inputs import PhaseName, inputs_of
from apo_jax.run.records import Damage
from apo_jax.run.run import Run
from apo_jax.training.checkpoints import DamagedCheckpoint


def mend(run: Run, listed: Sequence[PhaseName], damage: Sequence[Damage]) -> None:
  """Makes all phases unfinished that cannot be used, and those that must be played again for them.

  Args:
    run: set up, with no phase under way.
    listed: all phases, in order.
    damage: what was found of their files.

  Raises:
    ConfigError: what would have to be played again was taken over from another run.
  """
  say, directory = run.logs.progress.message, run.directory
  finished = [name for name in listed if (directory.round(name.round) / name.result).exists()]
  unusable = {one.phase for one in damage}
  for one in damage:
    say(one.sentence)
  gone = set()
  for name in finished:
    player = name.player
    if name in unusable or player is None:
      continue
    if not directory.checkpoints(player.name).exists():
      gone.add(name)  # dropped as rounds went by: only what reads it would miss it
      continue
    try:
      load_last(directory, player, run.models.of(player))
    except DamagedCheckpoint as error:
      say(str(error))
      unusable.add(name)
  # A phase that is not finished is played in any case, and may need what is gone.
  unusable.update([name for name in listed if name not in finished][:1])
  first = first_to_play(run.config, listed, [*unusable], lambda name: name not in gone)
  again = [name for name in finished if listed.index(name) >= first]
  if not again:
    say("No phase has to be played again.")
    return
  check_taken_over(directory, run.config, again)
  say(f"{again[0].words} and what comes behind it is played again.")
  if run.logs.is_writer:
    forget(directory, again)
    for one in damage:
      if one.path.name == PROVENANCE:
        _without_provenance(directory, one.phase.round)
  barrier("repair")


def _without_provenance(directory: RunDirectory, round: int) -> None:
  """Lets a round, which is played again from its first phase on, say anew what it starts from."""
  place = directory.round(round)
  (place / PROVENANCE).unlink(missing_ok=True)
  (place / CHECKSUMS).unlink(missing_ok=True)


def refuse_damage(damage: Sequence[Damage]) -> None:
  """Ends a start that has not asked for a repair.

  Raises:
    ConfigError: there is damage.
  """
  if not damage:
    return
  more = f" So are {len(damage) - 1} more files." if len(damage) > 1 else ""
  raise ConfigError(
    f"{damage[0].sentence}{more} Start the run with --repair to play what is needed again, or put"
    " back what was there."
  )


def first_to_play(
  config: Config,
  listed: Sequence[PhaseName],
  damaged: Sequence[PhaseName],
  has_player: Callable[[PhaseName], bool],
) -> int:
  """The place in `listed` from which on phases must be played again.

  Args:
    config: the run's.
    listed: all phases, in order.
    damaged: those whose results cannot be used.
    has_player: whether the player that a training phase made can still be read.

  Returns:
    That of the first damaged phase, or an earlier one, where a phase behind it reads a player that
    is no longer kept; `len(listed)` where none is damaged.
  """
  first = min((listed.index(name) for name in damaged), default=len(listed))
  read = {name: inputs_of(config, name).phases for name in listed}
  while True:
    missing = [
      listed.index(made)
      for name in listed[first:]
      for made in read[name]
      if made.player and listed.index(made) < first and not has_player(made)
    ]
    if not missing:
      return first
    first = min(missing)


def forget(directory: RunDirectory, names: Sequence[PhaseName]) -> None:
  """Makes finished phases unfinished, the last first, so that a stop leaves a run that can go on.

  Players of all but the first of them are deleted; that one's training may go on from what is good
  of its checkpoints.
  """
  for number, name in reversed(list(enumerate(names))):
    with contextlib.suppress(FileNotFoundError):
      (directory.round(name.round) / name.result).unlink()
    if number and name.player:
      remove_tree(directory.checkpoints(name.player.name))
