"""How long the data's texts are in tokens, before anything is cut or left out."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from apo_jax.data.records import Demonstration, GameData, Preference, Query
from apo_jax.data.tokenised import responses_of
from apo_jax.data.tokens import Codec

# More texts of a kind than these are a sample, so that a preview of much data stays quick.
MOST_TEXTS = 20_000
_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Lengths of one kind of text.

  Attributes:
    of: what they are of, such as "queries".
    texts: how many different ones there are.
    tokens: the lengths of all of them, or of `MOST_TEXTS` evenly spaced ones; of a query with all
      that the template adds, of a response with its end.
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
  chosen = _spread(every)
  queries = [len(ids) for some in _chunks(chosen) for ids in codec.form.query_ids(some)]
  found = [Lengths("queries", len(every), np.array(queries))]
  for field, records in fields.items():
    every = _different(text for record in records for text in responses_of(record))
    if every:
      some = [one for part in _chunks(_spread(every)) for one in codec.encode_responses(part)]
      tokens = np.array([one.num_slots for one in some])
      found.append(Lengths(f"responses of config.data.{field}", len(every), tokens))
  return found


def _different(texts: Iterable[str]) -> list[str]:
  return list(dict.fromkeys(texts))


def _spread(texts: list[str]) -> list[str]:
  if len(texts) <= MOST_TEXTS:
    return texts
  return [texts[int(index)] for index in np.linspace(0, len(texts) - 1, MOST_TEXTS)]


def _chunks(texts: list[str]) -> Iterable[list[str]]:
  return (texts[start : start + _CHUNK] for start in range(0, len(texts), _CHUNK))
