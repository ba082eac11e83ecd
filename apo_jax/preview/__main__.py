"""All that is known of a run before it trains: data, lengths, tokens, template, models, memory.

    python -m apo_jax.preview --config=configs/demo.py

It takes the flags of `apo_jax.main`, trains nothing and makes no run directory. What a run would
refuse it refuses, in the same sentence, with exit code 2.
"""

from pathlib import Path

from absl import app, flags, logging

from apo_jax.config import command_line
from apo_jax.config.checks import from_config_dict
from apo_jax.config.command_line import find_config_file
from apo_jax.config.config_file import define_config
from apo_jax.config.fields import ConfigError

_CONFIG = define_config("The experiment; any field can be set, as in --config.policy.loss=rrhf.")
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
  except ConfigError as error:
    return command_line.refuse(str(error))
  # Imported late, so that a wrong flag or field is answered at once.
  from apo_jax.logs.endings import ended
  from apo_jax.logs.places import find_place
  from apo_jax.preview import previewing
  from apo_jax.run.ownership import default_run_dir

  def work() -> int:
    if _OUTPUT.value:
      previewing.check_output(_OUTPUT.value)
    run_dir = find_place(_RUN_DIR.value or default_run_dir(config_file, config), "--run_dir")
    found = previewing.preview(config, config_file, run_dir)
    print(found.text, end="", flush=True)
    if _OUTPUT.value:
      previewing.write(found, Path(_OUTPUT.value))
      command_line.say(f"\ndata.json and preview.txt are in {_OUTPUT.value}.")
    return 0

  return ended(work, Path(_OUTPUT.value or "."))


if __name__ == "__main__":
  app.run(main, flags_parser=command_line.parse_flags)
