"""How long the data's texts are in tokens, before anything is cut or left out."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from apo_jax.data.records import Demonstration, GameData, Preference, Query
from apo_jax.data.tokenised import responses_of
from apo_jax.data.tokens import Codec

Text = TypeVar("Text", str, tuple[str, str])

# More texts of a kind than these are a sample, so that a preview of much data stays quick.
MOST_TEXTS = 20_000
_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Lengths of one kind of text.

  Attributes:
    of: what they are of, such as "queries".
    texts: how many different ones there are; responses differ where their queries do.
    tokens: the lengths of all of them, or of `MOST_TEXTS` evenly spaced ones; of a query with all
      that the template adds, of a response with its end. What the form cannot write is left out.
  """

  of: str
  texts: int
  tokens: Int[ndarray, " N"]


def lengths_of(codec: Codec, data: GameData) -> list[Lengths]:
  """Those of queries, and of the responses of each field that has some."""
  splits = (data.reward, data.policy, data.test)
  fields: dict[str, Sequence[Query | Demonstration | Preference]] = {
    "demonstrations": data.demonstrations,
    "preferences": [one for split in splits for one in split.preferences],
    "golden": [one for split in splits for one in split.golden],
    "queries": [one for split in splits for one in split.queries],
  }
  every = _different(record.query for records in fields.values() for record in records)
  queries = [
    len(ids)
    for some in _chunks(_spread(every))
    for ids in codec.form.query_ids([one for one in some if not codec.form.why_unfit(one, ())])
  ]
  found = [Lengths("queries", len(every), np.array(queries, int))]
  for field, records in fields.items():
    pairs = _different((one.query, text) for one in records for text in responses_of(one))
    if pairs:
      tokens = [slots for some in _chunks(_spread(pairs)) for slots in _slots(codec, some)]
      name = f"responses of config.data.{field}"
      found.append(Lengths(name, len(pairs), np.array(tokens, int)))
  return [one for one in found if one.tokens.size]


def _slots(codec: Codec, pairs: Sequence[tuple[str, str]]) -> list[int]:
  """Tokens of responses with their ends, those that the form cannot write left out."""
  fit = [(query, text) for query, text in pairs if not codec.form.why_unfit(query, [text])]
  encoded = codec.encode_answers([query for query, _ in fit], [[text] for _, text in fit])
  return [one.num_slots for some in encoded if some is not None for one in some]


def _different(texts: Iterable[Text]) -> list[Text]:
  return list(dict.fromkeys(texts))


def _spread(texts: list[Text]) -> list[Text]:
  if len(texts) <= MOST_TEXTS:
    return texts
  return [texts[int(index)] for index in np.linspace(0, len(texts) - 1, MOST_TEXTS)]


def _chunks(texts: list[Text]) -> Iterable[list[Text]]:
  return (texts[start : start + _CHUNK] for start in range(0, len(texts), _CHUNK))
