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


def forward_flops(architecture: Architecture, rows: int, length: int, logits: int) -> float:
  """Of a forward pass over `rows` rows of `length` tokens, with logits of `logits` tokens a row."""
  pairs = length * (length + 1) / 2
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
