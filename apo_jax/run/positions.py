"""Whether the checkpoints of a run were made for rows as long as the run's."""

from apo_jax.config.fields import ConfigError
from apo_jax.config.lengths import judged_length
from apo_jax.config.schema import Config
from apo_jax.models.hugging_face.checkpoint import Checkpoint
from apo_jax.run.origins import Origins


def check_positions(config: Config, origins: Origins) -> None:
  """Checks that no row is longer than the positions of a checkpoint that reads it.

  All of them read training rows, of `data.row_length`, and those of the test side, a query with a
  sample of evaluation. Beyond its positions a model answers, but nothing it has learned applies.

  Raises:
    ConfigError: a row is longer; it names both numbers.
  """
  data, sampler = config.data, config.sampling.evaluation
  sampled = data.query_length + sampler.max_new_tokens + 1
  for field, checkpoint in origins.checkpoints.items():
    _check_long_factors(field, checkpoint, judged_length(config))
    limit = checkpoint.positions
    if limit is None or judged_length(config) <= limit:
      continue
    if data.row_length > limit:
      said = f"config.data.row_length is {data.row_length}"
    else:
      said = (
        f"config.sampling.evaluation.max_new_tokens is {sampler.max_new_tokens}, which with a query"
        f" of config.data.query_length, {data.query_length}, and its end makes {sampled}"
      )
    raise ConfigError(
      f"{said} tokens, but {field} has {limit} positions"
      f" (max_position_embeddings in {checkpoint.directory}); give at most {limit} tokens, or a"
      " model of more positions."
    )


def _check_long_factors(field: str, checkpoint: Checkpoint, longest: int) -> None:
  """Refuses rows that would need the long factors of a checkpoint's rotary positions."""
  limit = checkpoint.architecture.longest_row
  if limit is not None and longest > limit:
    raise ConfigError(
      f"{field} is {str(checkpoint.directory)!r}, whose rotary positions change with the longest"
      f" row of a batch (longrope) beyond {limit} positions, and the longest row has {longest}:"
      " config.data.row_length, or config.data.query_length with the new tokens that"
      f" config.sampling allows; they must be at most {limit}."
    )
