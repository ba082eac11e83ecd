"""The data of the benchmarks: random tokens and lengths, the same for every contestant."""

import random
from typing import NamedTuple

PADDING = 0  # what peers pad with; no query or response holds it


class Item(NamedTuple):
  """A query and responses to it; each response ends with eos, the vocabulary's last id."""

  query: list[int]
  responses: list[list[int]]


def eos(vocab_size: int) -> int:
  """The id that ends a response."""
  return vocab_size - 1


def queries(count: int, length: int, vocab_size: int, seed: int = 0) -> list[list[int]]:
  """Random tokens, neither padding nor eos."""
  draw = random.Random(seed)
  return [[draw.randrange(1, vocab_size - 1) for _ in range(length)] for _ in range(count)]


def items(
  count: int, responses: int, query_length: int, response_length: int, vocab_size: int
) -> list[Item]:
  """Queries with so many responses of `response_length` tokens, eos included."""
  made = []
  for number, query in enumerate(queries(count, query_length, vocab_size)):
    drawn = queries(responses, response_length - 1, vocab_size, seed=1 + number)
    made.append(Item(query, [[*response, eos(vocab_size)] for response in drawn]))
  return made


def spread(shortest: int, longest: int, rows: int, columns: int) -> list[list[int]]:
  """Lengths from `shortest` to `longest` in even steps, in a random order, `columns` a row."""
  count = rows * columns
  steps = max(count - 1, 1)
  lengths = [shortest + round(number * (longest - shortest) / steps) for number in range(count)]
  random.Random(0).shuffle(lengths)
  return [lengths[row * columns : (row + 1) * columns] for row in range(rows)]
