"""All that is known of a run before it trains: data, lengths, tokens, template, models, memory.

    python -m apo_jax.preview --config=configs/demo.py

It takes the flags of `apo_jax.main`, trains nothing and makes no run directory. What a run would
refuse it refuses, in the same sentence, with exit code 1.
"""

import functools
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from apo_jax.config import command_line
from apo_jax.config.checks import from_config_dict
from apo_jax.config.command_line import find_config_file
from apo_jax.config.fields import ConfigError

REFUSED = 1  # the exit code

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The experiment; any field can be set, as in --config.policy.loss=rrhf."
)
_RUN_DIR = flags.DEFINE_string(
  "run_dir", None, "Where the run would be kept, or is; by default runs/NAME-HASH of the config."
)
_OUTPUT = flags.DEFINE_string(
  "output", None, "A directory for data.json and preview.txt; by default nothing is written."
)


def main(arguments: list[str]) -> int:
  """Shows what is known of the run that the flags describe; returns the exit code."""
  try:
    config_file = find_config_file(arguments)
    logging.set_verbosity(logging.WARNING)
    config = from_config_dict(_CONFIG.value)
    # Imported late, so that a wrong flag or field is answered at once.
    from apo_jax.logs.places import find_place
    from apo_jax.preview import previewing
    from apo_jax.run.ownership import default_run_dir

    if _OUTPUT.value:
      previewing.check_output(_OUTPUT.value)
    run_dir = find_place(_RUN_DIR.value or default_run_dir(config_file, config), "--run_dir")
    found = previewing.preview(config, config_file, run_dir)
    print(found.text, end="", flush=True)
    if _OUTPUT.value:
      previewing.write(found, Path(_OUTPUT.value))
      print(f"\ndata.json and preview.txt are in {_OUTPUT.value}.")
  except ConfigError as error:
    return command_line.refuse(str(error), REFUSED)
  return 0


if __name__ == "__main__":
  app.run(main, flags_parser=functools.partial(command_line.parse_flags, code=REFUSED))
