"""Which checkpoints are dropped as rounds go by."""

from apo_jax.logs.places import remove_tree
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.players import Players


def drop_old_checkpoints(directory: RunDirectory, players: Players, round: int, keep: int) -> None:
  """Deletes the checkpoints of rounds before the newest `keep`; round 0's stay."""
  for old in range(1, round - keep + 1):
    for player in (players.policy_after(old), players.reward_after(old)):
      if player.round:
        remove_tree(directory.checkpoints(player.name))
