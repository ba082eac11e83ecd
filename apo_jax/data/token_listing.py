"""Tokenised examples as readable text: what a model reads, where it answers, what is trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from apo_jax.config.visible import visible
from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.data.tokenised import Tokenised
from apo_jax.data.tokens import Codec, visible_tokens
from apo_jax.rows.rows import RESPONSE_SEGMENT, SHARED_SEGMENT, Rows, make_rows, row_length

_LEGEND = """\
Each token stands in ‹ ›, with line breaks as \\n; special tokens go by their names. A response's
likelihood is taken over the tokens under "trained on"; a reward model reads the query and them.
"""


# A sequence of which only so many tokens are shown loses its middle.
_DROPPED = "… {:,} more …"


class _Page(NamedTuple):
  """How much is shown: columns of a line, tokens of a sequence; None is no limit."""

  width: int | None
  tokens: int | None


def list_tokens(
  codec: Codec,
  records: Sequence[Tokenised],
  *,
  width: int | None = None,
  most_tokens: int | None = None,
) -> str:
  """The token rows of some records, written for people.

  Every response of a record is shown behind its query: the tokens, their ids, their numbers, and
  which of them are trained on.

  Args:
    codec: whose ids they are.
    records: that are shown.
    width: columns after which a line goes on in the next; None never breaks one.
    most_tokens: a longer sequence loses its middle; None shows all.
  """
  page = _Page(width, most_tokens)
  sections = [_section(codec, page, number, one) for number, one in enumerate(records, start=1)]
  return "\n".join([_LEGEND, *sections])


def _section(codec: Codec, page: _Page, number: int, tokenised: Tokenised) -> str:
  record, (query, responses) = tokenised.record, tokenised.item
  title = visible(f"Example {number}: {_kind(record)} {record.query_id!r}")
  lines = [title, "=" * len(title)]
  name = f"query{', its left cut off' if tokenised.is_cut else ''}"
  lines += _tokens(codec, page, name, query)
  count = len(responses)
  rows = make_rows([tokenised.item], count, row_length(query, responses), codec.eos)
  for index in range(count):
    name = "response" if count == 1 else f"response {index + 1} of {count}"
    if isinstance(record, Preference):
      name += f", score {record.scores[index]:g}"
    lines += _row(codec, page, name, Rows(*(array[0, index] for array in rows)))
  return "\n".join([*lines, ""])


def _row(codec: Codec, page: _Page, name: str, row: Rows) -> list[str]:
  """A response as it stands in its row, read by the row's own masks."""
  segments, mask = np.asarray(row.segment_ids), np.asarray(row.response_mask)
  start, trained = int((segments == SHARED_SEGMENT).sum()), row.tokens[mask]
  response = row.tokens[segments == RESPONSE_SEGMENT]
  return [
    *_tokens(codec, page, f"{name}: from place {start} on, trained on", trained.tolist()),
    f"  {start + len(response)} tokens in all",
  ]


def _tokens(codec: Codec, page: _Page, name: str, ids: Sequence[int]) -> list[str]:
  head, tail = list(ids), []
  if page.tokens is not None and len(ids) > page.tokens:
    half = page.tokens // 2
    head, tail = list(ids[:half]), list(ids[len(ids) - half :])
  dropped = [_DROPPED.format(len(ids) - len(head) - len(tail))] if tail else []

  def with_middle(pieces: Sequence[str]) -> list[str]:
    return [*pieces[: len(head)], *dropped, *pieces[len(head) :]]

  texts = [f"‹{token}›" for token in visible_tokens(codec.tokenizer, [*head, *tail])]
  return [
    f"{name}, {len(ids)} tokens:",
    *_lines("  ", with_middle(texts), "", page.width),
    *_lines("  ids ", with_middle([*map(str, head), *map(str, tail)]), " ", page.width),
  ]


def _lines(start: str, pieces: Sequence[str], between: str, width: int | None) -> list[str]:
  """The pieces behind `start`, on as many lines as the width asks for."""
  lines = [start + "".join(pieces[:1])]
  for piece in pieces[1:]:
    if width is not None and len(lines[-1]) + len(between) + len(piece) > width:
      lines.append(" " * len(start) + piece)
    else:
      lines[-1] += between + piece
  return lines


def _kind(record: Query | Demonstration | Preference) -> str:
  if isinstance(record, Preference):
    return "preference"
  return "golden response" if isinstance(record, Demonstration) else "query"
