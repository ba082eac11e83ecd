"""Whole responses in one pure call, as the tests of sampling want them."""

from apo_jax.config.schema import SamplerConfig
from apo_jax.inference.decoding import QueryBatch, Samples, decode, make_choose, start
from apo_jax.models.decoder import Decoder


def sample(policy: Decoder, queries: QueryBatch, config: SamplerConfig, **ids) -> Samples:
  """Reads the queries and decodes to the end; `ids` are the keywords of `make_choose`."""
  choose = make_choose(config, **ids)
  cache_dtype = policy.architecture.compute_dtype
  state = start(policy, queries, config, choose, cache_dtype=cache_dtype)
  return decode(policy, state, config.max_new_tokens - 1, choose).drawing.samples
