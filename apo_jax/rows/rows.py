"""Token rows: what a model reads, as fixed-shape arrays with explicit masks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

PADDING_SEGMENT = 0  # attends to nothing and is attended by nothing
SHARED_SEGMENT = 1  # the query: every later segment of its row sees it
RESPONSE_SEGMENT = 2  # and upwards: response r of a row is segment 2 + r

NO_SCORE = -1.0  # of a response that is missing, or not to be compared


class Rows(NamedTuple):
  """Token sequences, padded on the right, in one of two layouts.

  Separate rows [B, R, T] are `query y_r eos`, one a response. Shared rows [B, T] are
  `query y_1 eos … y_R eos`: each response sees the query and itself (`attention_mask`), and its
  positions go on from the query's, so that it is read as if it stood alone. There is no eos behind
  a response that did not end.

  Attributes:
    tokens: Int[..., T], 0 where there is none.
    segment_ids: Int[..., T], 1 on the query, 2 + r on the row's response r and its eos, 0 on
      padding. The one response of a separate row is 2.
    positions: Int[..., T], counted from 0 at the query's first token.
    ends: Bool[..., T], the eos of each response that ended.
    response_mask: Bool[..., T], the tokens whose log-probabilities make up log pi(y|x): those that
      were drawn, or stood in a text. An eos that stands for a stop string is not among them.
  """

  # NumPy arrays on the host, JAX arrays on the devices, shardings where layouts are described.
  tokens: Any
  segment_ids: Any
  positions: Any
  ends: Any
  response_mask: Any

  @property
  def read(self) -> tuple[Any, Any, Any, Any]:
    """What reward models read of them."""
    return self.tokens, self.segment_ids, self.positions, self.ends


class Response(NamedTuple):
  """One response to a query.

  Attributes:
    tokens: its ids, without eos.
    finished: it ended, by eos or a stop string; else it ran into the limit. eos stands in rows
      behind what ended, and only there.
    drew_end: the eos behind it was drawn, or stood in a text. One that a stop string ended is
      trained to end there, but what it never drew is no part of log pi(y|x).
  """

  tokens: Sequence[int]
  finished: bool = True
  drew_end: bool = True

  @property
  def key(self) -> tuple[tuple[int, ...], bool]:
    """What a reward model reads of it: within a query, responses of one key are one response."""
    return tuple(self.tokens), self.finished

  @property
  def num_slots(self) -> int:
    """Its places in a row: the tokens, and eos behind what ended."""
    return len(self.tokens) + int(self.finished)


# Query ids, and the responses to it; None is a response that is missing.
Item = tuple[Sequence[int], Sequence[Response | None]]


def row_length(query: Sequence[int], responses: Sequence[Response | None]) -> int:
  """The length `make_rows` needs for an item: its query, and its longest response with its eos."""
  return len(query) + max([*_lengths(responses), 1])


def shared_row_length(query: Sequence[int], responses: Sequence[Response | None]) -> int:
  """The length `make_shared_rows` needs for an item: its query, all responses and their eos."""
  return len(query) + sum(_lengths(responses))


def _lengths(responses: Sequence[Response | None]) -> list[int]:
  """Tokens of each response that is not missing, with its eos."""
  return [response.num_slots for response in responses if response is not None]


def make_rows(items: Sequence[Item], num_responses: int, length: int, eos: int) -> Rows:
  """Separate rows [items, num_responses, length]; missing responses are rows of padding.

  Raises:
    ValueError: a sequence is longer than `length`. Cutting is the codec's and sampler's business.
  """
  alone = []
  for query, responses in items:
    missing = [None] * (num_responses - len(responses))
    alone += [(query, [response]) for response in (*responses, *missing)]
  rows = make_shared_rows(alone, length, eos)
  return Rows(*(array.reshape(len(items), num_responses, length) for array in rows))


def make_shared_rows(items: Sequence[Item], length: int, eos: int) -> Rows:
  """Shared rows [items, length]; missing responses are left out, and a query without any as well.

  Raises:
    ValueError: an item is longer than `length`. Cutting is the codec's and sampler's business.
  """
  shape = (len(items), length)
  tokens = np.zeros(shape, np.int32)
  segments = np.full(shape, PADDING_SEGMENT, np.int32)
  ends, mask = np.zeros(shape, bool), np.zeros(shape, bool)
  positions = np.broadcast_to(np.arange(length, dtype=np.int32), shape).copy()
  for row, (query, responses) in enumerate(items):
    lengths = _lengths(responses)
    if not lengths:
      continue
    needed = shared_row_length(query, responses)
    if needed > length:
      listed = " and ".join(map(str, lengths))
      raise ValueError(
        f"a query of {len(query)} and a response of {listed} tokens with eos need {needed} places, "
        f"the row has {length}."
      )
    start = len(query)
    tokens[row, :start] = query
    segments[row, :start] = SHARED_SEGMENT
    for index, response in enumerate(responses):
      if response is None:
        continue
      last = start + len(response.tokens)
      end = start + response.num_slots
      tokens[row, start:last] = response.tokens
      tokens[row, last:end] = eos
      segments[row, start:end] = RESPONSE_SEGMENT + index
      positions[row, start:end] = len(query) + np.arange(end - start)
      ends[row, last:end] = True
      mask[row, start:last] = True
      mask[row, last:end] = response.drew_end
      start = end
  return Rows(tokens, segments, positions, ends, mask)


def distinct_scores(responses: Sequence[Response], scores: Sequence[float]) -> list[float]:
  """The scores of responses, where each counts once: `NO_SCORE` for what is lost.

  Equal responses are one to a reward model. Of those with one score the first stays; where their
  scores differ they say nothing, and the row loses all of them.
  """
  given: dict[Any, set[float]] = {}
  for response, score in zip(responses, scores, strict=True):
    given.setdefault(response.key, set()).add(score)
  kept, seen = [], set()
  for response, score in zip(responses, scores, strict=True):
    lost = response.key in seen or len(given[response.key]) > 1
    kept.append(NO_SCORE if lost else score)
    seen.add(response.key)
  return kept


def flatten(rows: Rows) -> Rows:
  """[B, R, T] to [B * R, T]."""
  return Rows(*(array.reshape(-1, array.shape[-1]) for array in rows))
