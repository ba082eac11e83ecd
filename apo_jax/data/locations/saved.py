"""Folders that `datasets` wrote by `save_to_disk`: one data set, or one for every split."""

from collections.abc import Callable, Iterator

from apo_jax.data.locations.errors import LocationError, first_line
from apo_jax.data.locations.rows import Row


def is_saved(holds: Callable[[str], bool]) -> bool:
  """Whether a folder was written so; `holds` says whether a file of a name is in it."""
  return holds("dataset_dict.json") or (holds("state.json") and holds("dataset_info.json"))


def saved_rows(location: str, split: str) -> Iterator[Row]:
  """The rows of such a folder.

  Args:
    location: its path or fsspec's URI.
    split: in the words of `datasets`, as "train[:10%]+test"; "" takes the only one, or "train".

  Raises:
    LocationError: it cannot be read, or has no such split.
  """
  import datasets  # takes seconds, which no other source should cost

  try:
    loaded = datasets.load_from_disk(location)
    if isinstance(loaded, dict):
      sets = {str(name): one for name, one in loaded.items()}
    else:
      sets = {str(loaded.split or "train"): loaded}
    if not split and len(sets) > 1 and "train" not in sets:
      raise LocationError(f"its splits are {', '.join(sets)}; choose one by ?split=NAME")
    wanted = split or (next(iter(sets)) if len(sets) == 1 else "train")
    for part in _parts(wanted, {name: len(one) for name, one in sets.items()}):
      # A format that was set, as "torch", would give tensors of some of the columns.
      plain = sets[part.splitname].with_format(None)
      yield from plain.select(range(part.from_, part.to))
  except LocationError:
    raise
  except Exception as error:
    raise LocationError(f"{first_line(error)}; it was written by save_to_disk") from error


def _parts(split: str, sizes: dict[str, int]) -> list:
  """The ranges of rows that a split of several words names, as `datasets` reads it."""
  import datasets

  whole = [part.strip() for part in split.split("+")]
  if all(part in sizes for part in whole):
    return [datasets.ReadInstruction(part).to_absolute(sizes)[0] for part in whole]
  return datasets.ReadInstruction.from_spec(split).to_absolute(sizes)
