"""Which checkpoints are dropped as rounds go by."""

import contextlib
import shutil

from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.players import Players


def drop_old_checkpoints(directory: RunDirectory, players: Players, round: int, keep: int) -> None:
  """Deletes the checkpoints of rounds before the newest `keep`; round 0's stay."""
  for old in range(1, round - keep + 1):
    for player in (players.policy_after(old), players.reward_after(old)):
      if player.round:
        with contextlib.suppress(FileNotFoundError):
          shutil.rmtree(directory.checkpoints(player.name))
