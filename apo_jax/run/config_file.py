"""A config file for ml_collections that is the config of a run: `PATH/config_file.py:--run=RUN`.

So a run that is there is gone on with, or branched, without the file that it was begun with, and
fields are set by flags as ever (`config.command_line.with_config_of_run`).
"""

import ml_collections

from apo_jax.config.base import section
from apo_jax.logs.places import find_place
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.opening import read_run_config


def get_config(given: str) -> ml_collections.ConfigDict:
  """Every field of the run's config, and a section for every choice.

  Args:
    given: the flag that names the run's directory, as it was given.

  Raises:
    ConfigError: the directory is no run's, or in a bucket that cannot be read.
  """
  flag, _, run_dir = given.partition("=")
  return section(read_run_config(RunDirectory(find_place(run_dir, flag)), flag))
