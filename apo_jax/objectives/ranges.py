"""The values that a number may take, as annotations of the fields that hold hyper-parameters."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any


@dataclasses.dataclass(frozen=True)
class Range:
  """The values a number may take: `words` completes "must be ...", `contains` decides."""

  words: str
  contains: Callable[[Any], bool]


def at_most(most: int) -> Range:
  """An upper limit, as the second annotation of a number: what more would ask for has no end."""
  return Range(f"and at most {most:,}", lambda value: value <= most)


PositiveInt = Annotated[int, Range("at least 1", lambda value: value >= 1)]
NonNegativeInt = Annotated[int, Range("at least 0", lambda value: value >= 0)]
Size = Annotated[PositiveInt, at_most(2**24)]  # features, tokens, rows, samples: of an array
Layers = Annotated[PositiveInt, at_most(10_000)]
Times = Annotated[NonNegativeInt, at_most(10_000)]  # rounds, epochs: one after the other
Amount = Annotated[NonNegativeInt, at_most(10**9)]  # records, of which one is in memory at a time
PositiveFloat = Annotated[float, Range("above 0", lambda value: value > 0)]
NonNegativeFloat = Annotated[float, Range("at least 0", lambda value: value >= 0)]
NonEmptyText = Annotated[str, Range("a text that is not empty", lambda value: value != "")]
Probability = Annotated[float, Range("above 0 and at most 1", lambda value: 0 < value <= 1)]
Share = Annotated[float, Range("at least 0 and at most 1", lambda value: 0 <= value <= 1)]
SmallShare = Annotated[float, Range("at least 0 and below 0.5", lambda value: 0 <= value < 0.5)]
Decay = Annotated[float, Range("at least 0 and below 1", lambda value: 0 <= value < 1)]
MeshAxis = Annotated[
  int, Range("at least 1, or -1 to fill", lambda value: value == -1 or value >= 1)
]
