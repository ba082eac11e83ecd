"""The values that a number may take, as annotations of the fields that hold hyper-parameters."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any


@dataclasses.dataclass(frozen=True)
class Range:
  """The values a number may take: `words` completes "must be ...", `contains` decides."""

  words: str
  contains: Callable[[Any], bool]


def _between(least: int, most: int) -> Range:
  return Range(f"at least {least} and at most {most:,}", lambda value: least <= value <= most)


# Devices count in 32 bits. Behind the first range, which says what a field is for.
_COUNTED = Range("at most 2,147,483,647", lambda value: value < 2**31)

PositiveInt = Annotated[int, Range("at least 1", lambda value: value >= 1), _COUNTED]
NonNegativeInt = Annotated[int, Range("at least 0", lambda value: value >= 0), _COUNTED]
# A seed is hashed, so that it may be of any size.
Seed = Annotated[int, Range("at least 0", lambda value: value >= 0)]
# Far more than anyone has used, and less than what would fill a disk or a memory unnoticed.
Rounds = Annotated[int, _between(0, 10_000)]
Epochs = Annotated[int, _between(0, 100_000)]
Layers = Annotated[int, _between(1, 10_000)]
Width = Annotated[int, _between(1, 1_000_000)]
BatchSize = Annotated[int, _between(1, 1_000_000)]
Samples = Annotated[int, _between(1, 10_000)]
Bins = Annotated[int, _between(1, 10_000)]
Rank = Annotated[int, _between(0, 100_000)]
Tokens = Annotated[int, _between(1, 10_000_000)]
PositiveFloat = Annotated[float, Range("above 0", lambda value: value > 0)]
NonNegativeFloat = Annotated[float, Range("at least 0", lambda value: value >= 0)]
NonEmptyText = Annotated[str, Range("that is not empty", lambda value: value != "")]
Probability = Annotated[float, Range("above 0 and at most 1", lambda value: 0 < value <= 1)]
Share = Annotated[float, Range("at least 0 and at most 1", lambda value: 0 <= value <= 1)]
SmallShare = Annotated[float, Range("at least 0 and below 0.5", lambda value: 0 <= value < 0.5)]
Decay = Annotated[float, Range("at least 0 and below 1", lambda value: 0 <= value < 1)]
MeshAxis = Annotated[
  int, Range("at least 1, or -1 to fill", lambda value: value == -1 or value >= 1)
]
