"""What is said where a number is on the wrong side of its threshold."""

from typing import NamedTuple


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
