"""Log-probabilities of given tokens under a policy."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from apo_jax.data.rows import Rows
from apo_jax.models.decoder import Decoder


def sequence_logprobs(policy: Decoder, rows: Rows) -> Float[Array, "B"]:
  """log pi(y|x) of each row [B, T]: the sum over its response tokens, float32.

  The token at slot t is predicted from the hidden state at slot t - 1.
  """
  hidden, _ = policy(rows.tokens, rows.segment_ids, rows.positions)
  logits = policy.logits(hidden[:, :-1])
  targets = rows.tokens[:, 1:]
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  logprobs = chosen - jax.nn.logsumexp(logits, axis=-1)
  return jnp.sum(jnp.where(rows.response_mask[:, 1:], logprobs, 0.0), axis=-1)
