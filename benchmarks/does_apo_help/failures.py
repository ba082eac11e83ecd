"""How often a policy shows the failure that one world's preferences do not."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# As the embedded world's utility has it (apo_jax/data/toy/utility.py).
_PROPER = re.compile(r"\w[.!]\Z")


def improper_ending(rows: Sequence[Mapping[str, Any]]) -> float:
  """The share of samples that do not end in a word and one full stop or exclamation mark.

  Args:
    rows: of a file such as test_samples.jsonl, of equally many samples each.
  """
  texts = [sample["text"] for row in rows for sample in row["samples"]]
  return float(np.mean([_PROPER.search(text.rstrip()) is None for text in texts]))
