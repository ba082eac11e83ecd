"""Whether the checkpoints of a run were made for rows as long as the run's."""

from apo_jax.config.fields import ConfigError
from apo_jax.config.lengths import judged_length
from apo_jax.config.schema import Config
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
