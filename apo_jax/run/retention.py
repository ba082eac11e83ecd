"""Which checkpoints are dropped as rounds go by."""

from apo_jax.logs.places import remove_tree
from apo_jax.logs.run_directory import RunDirectory


def drop_old_checkpoints(directory: RunDirectory, round: int, keep: int) -> None:
  """Deletes the checkpoints of rounds before the newest `keep`; round 0's stay.

  It goes through what is there, not through all rounds that were ever played.
  """
  for path in directory.all_checkpoints.glob("*"):
    number = path.name.partition("_")[0]
    if number.isdecimal() and 0 < int(number) <= round - keep:
      remove_tree(path)
