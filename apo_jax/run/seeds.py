"""Seeds for every purpose, derived from the run's one seed.

No random state is carried from one phase to the next: each purpose has its own seed, so a resumed
run, a skipped phase or another batch size draws the same numbers.
"""

import hashlib

import numpy as np


def derive_seed(seed: int, *purpose: str | int) -> int:
  """A seed of 31 bits for a purpose, such as ("shuffle", 1, "reward")."""
  return int(derive_key(seed, *purpose)[0] >> 1)


def derive_key(seed: int, *purpose: str | int) -> np.ndarray:
  """The data of a threefry key, UInt32[2], for a purpose, such as (1, "golden", query_id)."""
  name = "/".join(map(str, (seed, *purpose)))
  digest = hashlib.sha256(name.encode("utf-8", errors="backslashreplace")).digest()
  return np.frombuffer(digest[:8], "<u4").astype(np.uint32)
