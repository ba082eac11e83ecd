"""What answers and what rates, compiled for a few lengths: a turn compiles nothing that was seen.

Lengths are padded to powers of two, so that a dialogue that grows meets a new one ever more rarely.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt32

from apo_jax.config.schema import SamplerConfig
from apo_jax.data.input import bucket_of
from apo_jax.data.tokens import Codec
from apo_jax.devices.sharding import batch_shards
from apo_jax.evaluate.models import Source
from apo_jax.evaluate.reading import Answer, Item, token_sequences
from apo_jax.inference.sampler import Sampler
from apo_jax.inference.scoring import make_reward_scorer
from apo_jax.models.definition import Definition, Parameters

_SHORTEST = 128  # tokens

Say = Callable[[str], None]


def padded_lengths(longest: int) -> tuple[int, ...]:
  """Powers of two below the longest length, and that."""
  found = [_SHORTEST]
  while found[-1] < longest:
    found.append(2 * found[-1])
  return (*found[:-1], longest)


class Answering:
  """Answers of the policies of one definition.

  Args:
    definition: of the policies.
    codec: how they read.
    mesh: where they are.
    say: hears that something is compiled.
  """

  def __init__(self, definition: Definition, codec: Codec, mesh: Mesh, say: Say):
    self._codec = codec
    self._say = say
    self._seen: set[tuple[int, SamplerConfig]] = set()
    self._sampler = Sampler(
      definition,
      codec,
      mesh,
      buckets=padded_lengths(codec.query_length),
      batch_size=batch_shards(mesh),
      cache_dtype=definition.architecture.compute_dtype,
      gather_weights=True,
    )

  def __call__(
    self, parameters: Parameters, query: list[int], key: UInt32[np.ndarray, "2"], how: SamplerConfig
  ) -> Answer:
    """A policy's answer to the ids of a query, as the sampler draws it by a key."""
    buckets = self._sampler.buckets
    bucket = bucket_of(len(query), buckets)
    if (bucket, how) not in self._seen:
      self._seen.add((bucket, how))
      self._say(f"Compiling, for dialogues of up to {buckets[bucket]:,} tokens …")
    ((drawn,),) = self._sampler(parameters, [query], key[None], how)
    response = drawn.response
    text = self._codec.decode(response.tokens)
    return Answer(text, response.finished, response, self._codec)


class Rating:
  """Rewards by the reward models of one definition.

  Args:
    definition: of the reward models.
    source: whose text they read.
    mesh: where they are.
  """

  def __init__(self, definition: Definition, source: Source, mesh: Mesh):
    self._source = source
    self._score = make_reward_scorer(
      definition,
      mesh,
      batch_size=batch_shards(mesh),
      query_length=source.codec.query_length,
      lengths=padded_lengths(source.limit),
      eos=source.codec.eos,
    )

  def __call__(self, parameters: Any, query: str, answer: Answer) -> float | None:
    """The reward of an answer to a query of text; None where both fit no row."""
    (sequences,) = token_sequences(self._source, [Item("chat", query, (answer,))])
    return None if sequences is None else float(self._score(parameters, sequences)[0])
