"""The work that a benchmark has to do, counted analytically, and the least time it can take.

A query is read once however many responses it has, logits are of response tokens alone, nothing is
computed twice: what no program can go below, not what one does (`apo_jax.models.model_flops`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from apo_jax.models import model_flops
from apo_jax.models.architecture import Architecture


class Work(NamedTuple):
  """FLOPs of matrix products, and bytes that have to be moved: of parameters and caches."""

  flops: float
  bytes: float


class Machine(NamedTuple):
  """What the machine reached in the same run: FLOP/s of matrix products, bytes/s of a copy."""

  flops: float
  bandwidth: float


def limit_seconds(work: Work, machine: Machine) -> float:
  """The least time: computing and moving may overlap."""
  return max(work.flops / machine.flops, work.bytes / machine.bandwidth)


def parameter_count(architecture: Architecture) -> float:
  """Of the matrices: those of the layers, and one table of the vocabulary."""
  return (model_flops.layer_flops(architecture) + model_flops.head_flops(architecture)) / 2


def row_flops(
  architecture: Architecture, query: int, responses: Sequence[int], *, logits: bool
) -> float:
  """Of reading a query and behind it its responses, which see it and not each other."""
  pairs = query * (query + 1) / 2
  pairs += sum(length * query + length * (length + 1) / 2 for length in responses)
  flops = (query + sum(responses)) * model_flops.layer_flops(architecture)
  flops += model_flops.attention_flops(architecture, pairs)
  return flops + logits * sum(responses) * model_flops.head_flops(architecture)


def training_step(
  architecture: Architecture, query: int, responses: Sequence[Sequence[int]], *, logits: bool
) -> Work:
  """One update on rows with these response lengths, all behind queries of one length.

  float32 parameters are read forwards, backwards and by the optimizer, and written; gradients and
  both of AdamW's moments are read and written.
  """
  forward = sum(row_flops(architecture, query, row, logits=logits) for row in responses)
  moved = (3 + 1 + 3 * 2) * 4 * parameter_count(architecture)
  return Work(model_flops.training_flops(forward, adapters=False), moved)


def scoring(
  architecture: Architecture, query: int, responses: Sequence[Sequence[int]], *, logits: bool
) -> Work:
  """One forward pass over such rows; parameters are read once, float32."""
  flops = sum(row_flops(architecture, query, row, logits=logits) for row in responses)
  return Work(flops, 4 * parameter_count(architecture))


def sampling(
  architecture: Architecture, query: int, lengths: Sequence[Sequence[int]], itemsize: int
) -> Work:
  """Responses of these lengths, one list a query.

  The first token of each comes from its query's own pass. Every later step reads all parameters,
  and of the queries and responses that are not over the keys and values, `itemsize` bytes a number.
  """
  logits = model_flops.head_flops(architecture)
  flops, cached = 0.0, 0.0
  for row in lengths:
    flops += row_flops(architecture, query, [], logits=False) + logits
    cached += query * (max(row) - 1)
    for length in row:
      passes, seen = length - 1, length * (length - 1) / 2
      flops += passes * (model_flops.layer_flops(architecture) + logits)
      flops += model_flops.attention_flops(architecture, passes * query + seen)
      cached += seen
  a_token = 2 * architecture.layers * architecture.kv_heads * architecture.head_dim
  steps = max(max(row) for row in lengths)
  return Work(flops, itemsize * (steps * parameter_count(architecture) + cached * a_token))
