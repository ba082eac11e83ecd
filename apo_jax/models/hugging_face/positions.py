"""How many positions a checkpoint was made for, by its config.json."""

from collections.abc import Mapping
from typing import Any

# The names of one and the same number, by family and age of the file.
_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "n_ctx")
# Scalings that stretch the positions beyond the number that stands in the file. For "llama3" and
# "longrope" the number is that of the stretched ones already.
_STRETCHED = ("linear", "dynamic", "ntk")
_STRETCHED_FROM_ORIGINAL = ("yarn",)


def position_limit(given: Mapping[str, Any], family: str, default: int | None) -> int | None:
  """Tokens of the longest sequence that a model was made for; None where nothing says.

  A sliding window is no limit: it says how far back a token sees, not how long a text may be.

  Args:
    given: config.json as it is.
    family: its "model_type".
    default: what the family's class in transformers takes where the file says nothing.
  """
  rope = given.get("rope_scaling") or given.get("rope_parameters") or {}
  kind = rope.get("rope_type", rope.get("type"))
  factor = float(rope.get("factor") or 1.0)
  said = next((given[name] for name in _NAMES if _is_size(given.get(name))), None)
  original = rope.get("original_max_position_embeddings") or given.get(
    "original_max_position_embeddings"
  )
  if kind in _STRETCHED_FROM_ORIGINAL and _is_size(original):
    return int(max(original * factor, said or 0))
  if said is None and _is_size(original):
    return int(original * factor)
  if said is None:
    return default
  # Gemma 3 says its stretched number beside the factor.
  stretched = kind in _STRETCHED and not family.startswith("gemma3")
  # So does a file that says its whole length by the side.
  whole = given.get("max_sequence_length")
  if stretched and _is_size(whole) and whole > said:
    return int(whole)
  return int(said * factor) if stretched else int(said)


def _is_size(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value > 0
