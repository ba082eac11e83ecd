"""Tokenised examples as readable text: what a model reads, where it answers, what is trained on."""

from collections.abc import Sequence

import numpy as np

from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.data.tokenised import Tokenised
from apo_jax.data.tokens import Codec, token_texts
from apo_jax.rows.rows import RESPONSE_SEGMENT, SHARED_SEGMENT, Rows, make_rows, row_length

_LEGEND = """\
Each token stands in ‹ ›, with line breaks as \\n; special tokens go by their names. A response's
likelihood is taken over the tokens under "trained on"; a reward model reads the query and them.
"""


def list_tokens(codec: Codec, records: Sequence[Tokenised]) -> str:
  """The token rows of some records, written for people.

  Every response of a record is shown behind its query: the tokens, their ids, their numbers, and
  which of them are trained on.
  """
  sections = [_section(codec, number, record) for number, record in enumerate(records, start=1)]
  return "\n".join([_LEGEND, *sections])


def _section(codec: Codec, number: int, tokenised: Tokenised) -> str:
  record, (query, responses) = tokenised.record, tokenised.item
  title = f"Example {number}: {_kind(record)} {record.query_id!r}"
  lines = [title, "=" * len(title)]
  lines += _tokens(codec, f"query{', its left cut off' if tokenised.is_cut else ''}", query)
  count = len(responses)
  rows = make_rows([tokenised.item], count, row_length(query, responses), codec.eos)
  for index in range(count):
    name = "response" if count == 1 else f"response {index + 1} of {count}"
    if isinstance(record, Preference):
      name += f", score {record.scores[index]:g}"
    lines += _row(codec, name, Rows(*(array[0, index] for array in rows)))
  return "\n".join([*lines, ""])


def _row(codec: Codec, name: str, row: Rows) -> list[str]:
  """A response as it stands in its row, read by the row's own masks."""
  segments, mask = np.asarray(row.segment_ids), np.asarray(row.response_mask)
  start, trained = int((segments == SHARED_SEGMENT).sum()), row.tokens[mask]
  response = row.tokens[segments == RESPONSE_SEGMENT]
  return [
    *_tokens(codec, f"{name}: from place {start} on, trained on", trained.tolist()),
    f"  {start + len(response)} tokens in all",
  ]


def _tokens(codec: Codec, name: str, ids: Sequence[int]) -> list[str]:
  shown = "".join(f"‹{_visible(codec, token)}›" for token in ids)
  return [f"{name}, {len(ids)} tokens:", f"  {shown}", f"  ids {' '.join(map(str, ids))}"]


def _visible(codec: Codec, token: int) -> str:
  (text,) = token_texts(codec.tokenizer, [token])
  # Special tokens have no text, and parts of a character none that can be read.
  if not text or "\ufffd" in text:
    text = str(codec.tokenizer.convert_ids_to_tokens(token))
  return text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def _kind(record: Query | Demonstration | Preference) -> str:
  if isinstance(record, Preference):
    return "preference"
  return "golden response" if isinstance(record, Demonstration) else "query"
