"""What is said where a number is on the wrong side of its threshold."""

from typing import NamedTuple

# How a field is changed in the middle of a game, behind advice that names fields of training.
BRANCH = (
  "A run's fields stay: `python -m apo_jax.branch` begins a new run with others from a finished"
  " round."
)


class Finding(NamedTuple):
  """A warning.

  Attributes:
    name: of its kind, as in health.json.
    value: the number that was seen.
    threshold: what the number must not pass.
    sentence: what is seen, what it means, and which fields of the config may help.
  """

  name: str
  value: float
  threshold: float
  sentence: str
