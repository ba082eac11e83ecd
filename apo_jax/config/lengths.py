"""Lengths that follow from others of a config."""

from apo_jax.config.schema import Config


def judged_length(config: Config) -> int:
  """Tokens of the longest row of the test side: no text is shorter cut than a sample may be."""
  sample = config.data.query_length + config.sampling.evaluation.max_new_tokens + 1
  return max(config.data.row_length, sample)
