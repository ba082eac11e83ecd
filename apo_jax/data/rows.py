"""Token rows: what a model reads, as fixed-shape arrays with explicit masks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

PADDING_SEGMENT = 0  # attends to nothing and is attended by nothing
SHARED_SEGMENT = 1  # the query: every later segment of its row sees it
RESPONSE_SEGMENT = 2


class Rows(NamedTuple):
  """Sequences `<bos> query <separator> response <eos>`, padded on the right.

  Attributes:
    tokens: Int[..., T], 0 where there is none.
    segment_ids: Int[..., T], 1 on the query, 2 on the response and its eos, 0 on padding.
    positions: Int[..., T], counted from 0 at the first token.
    response_mask: Bool[..., T], the tokens whose log-probabilities make up log pi(y|x): the
      response, and eos where the response ended by itself.
  """

  # NumPy arrays on the host, JAX arrays on the devices, shardings where layouts are described.
  tokens: Any
  segment_ids: Any
  positions: Any
  response_mask: Any


class Response(NamedTuple):
  """Ids of one response without eos, and whether it ended by itself (else it was cut off).

  One that ended is scored and trained on with eos behind it, also where a stop string ended it: the
  policy learns to end there.
  """

  tokens: Sequence[int]
  finished: bool = True


def row_length(query: Sequence[int], responses: Sequence[Response | None]) -> int:
  """The length `make_rows` needs for an item: its query, its longest response and eos."""
  longest = max((len(response.tokens) for response in responses if response is not None), default=0)
  return len(query) + longest + 1


def make_rows(
  items: Sequence[tuple[Sequence[int], Sequence[Response | None]]],
  num_responses: int,
  length: int,
  eos: int,
) -> Rows:
  """Rows [items, num_responses, length]; missing responses (None) are rows of padding.

  Raises:
    ValueError: a sequence is longer than `length`. Cutting is the codec's and sampler's business.
  """
  shape = (len(items), num_responses, length)
  tokens = np.zeros(shape, np.int32)
  segments = np.full(shape, PADDING_SEGMENT, np.int32)
  mask = np.zeros(shape, bool)
  positions = np.broadcast_to(np.arange(length, dtype=np.int32), shape).copy()
  for b, (query, responses) in enumerate(items):
    for r, response in enumerate(responses):
      if response is None:
        continue
      start, end = len(query), len(query) + len(response.tokens)
      if end + 1 > length:
        raise ValueError(
          f"a query of {start} and a response of {end - start} tokens need {end + 1} places, "
          f"the row has {length}."
        )
      tokens[b, r, :start] = query
      tokens[b, r, start:end] = response.tokens
      tokens[b, r, end] = eos
      segments[b, r, :start] = SHARED_SEGMENT
      segments[b, r, start : end + 1] = RESPONSE_SEGMENT
      mask[b, r, start : end + int(response.finished)] = True
  return Rows(tokens, segments, positions, mask)


def flatten(rows: Rows) -> Rows:
  """[B, R, T] to [B * R, T]."""
  return Rows(*(array.reshape(-1, array.shape[-1]) for array in rows))
