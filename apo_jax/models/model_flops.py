"""The FLOPs that a model asks for, whatever a program does: what MFU is measured by.

Matrix products alone, a multiplication and an addition each; every token of every row, attention
to the tokens before (half of all pairs), no recomputation.
"""

from apo_jax.models.architecture import Architecture


def layer_flops(architecture: Architecture) -> float:
  """Of one token in all layers, attention's two products with other tokens left out."""
  d, f = architecture.embed_dim, architecture.mlp_dim
  features = (2 * architecture.heads + 2 * architecture.kv_heads) * architecture.head_dim
  return 2.0 * architecture.layers * d * (features + 3 * f)


def attention_flops(architecture: Architecture, pairs: float) -> float:
  """Of attention in all layers, for so many pairs of a token and one it sees."""
  return 4.0 * architecture.layers * architecture.heads * architecture.head_dim * pairs


def head_flops(architecture: Architecture) -> float:
  """Of the logits of one token."""
  return 2.0 * architecture.embed_dim * architecture.vocab_rows


def seen_pairs(query_length: int, num_responses: int, response_length: float) -> float:
  """Pairs of a token and one it sees in a row of a query and responses that do not see each other.

  Every token sees itself too.
  """
  query = query_length * (query_length + 1) / 2
  own = response_length * (response_length + 1) / 2
  return query + num_responses * (query_length * response_length + own)


def forward_flops(
  architecture: Architecture, rows: int, length: int, logits: int, pairs: float | None = None
) -> float:
  """Of a forward pass over `rows` rows of `length` tokens, with logits of `logits` tokens a row.

  `pairs` are a row's (`seen_pairs`); None is for rows whose tokens see all before.
  """
  if pairs is None:
    pairs = seen_pairs(length, 0, 0.0)
  row = length * layer_flops(architecture) + attention_flops(architecture, pairs)
  return rows * (row + logits * head_flops(architecture))


def training_flops(forward: float, *, adapters: bool) -> float:
  """Of a forward and a backward pass.

  The backward pass has two products for each of the forward pass: for the input's gradient and for
  the weight's. Where only adapters are trained, the second is left out (theirs are small).
  """
  return forward * (2 if adapters else 3)


def decoding_flops(
  architecture: Architecture, queries: int, width: int, samples: int, tokens: int
) -> float:
  """Of `samples` responses of `tokens` tokens for each of `queries` queries of `width` tokens.

  The first token of each response comes from the query's own pass, which is left out here; the
  others take a pass each.
  """
  passes = tokens - 1
  pairs = passes * width + passes * (passes + 1) / 2
  token = layer_flops(architecture) + head_flops(architecture)
  return queries * samples * (passes * token + attention_flops(architecture, pairs))
