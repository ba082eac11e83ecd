"""The command line: `python -m apo_jax.main --config=configs/demo.py`. Kept short."""

import contextlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from apo_jax.config import command_line
from apo_jax.config.checks import from_config_dict
from apo_jax.config.command_line import find_config_file, parse_flags, process_flags, refuse
from apo_jax.config.fields import ConfigError

flags.adopt_module_key_flags(command_line)  # so that --help shows them
_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The experiment; any field can be set, as in --config.policy.loss=rrhf."
)
_RUN_DIR = flags.DEFINE_string(
  "run_dir", None, "Where the run is kept; by default runs/NAME-HASH of the config."
)
_COMPILATION_CACHE = flags.DEFINE_string(
  "compilation_cache",
  None,
  "Where compiled programs are kept, for the next start; by default in the run directory, '' keeps"
  " none.",
)
_SHARE = flags.DEFINE_string(
  "share",
  None,
  "A folder of phases that runs share: what one of them has played, such as the supervised start of"
  " a seed, the others take over (docs/sweeps.md).",
)
_REPAIR = flags.DEFINE_bool(
  "repair",
  False,
  "Play phases again whose results or checkpoints are damaged, and all that follows from them.",
)


def main(arguments: list[str]) -> int:
  """Plays the game that the flags describe; returns the exit code."""
  try:
    config_file = find_config_file(arguments)
    logging.set_verbosity(logging.WARNING)
    config = from_config_dict(_CONFIG.value)
  except ConfigError as error:
    return refuse(str(error))
  # Imported late, so that a wrong flag or field is answered at once.
  import jax

  from apo_jax import game
  from apo_jax.devices import distributed, interrupts
  from apo_jax.devices.compilation_cache import use_compilation_cache
  from apo_jax.inference.scoring import NotFinite
  from apo_jax.logs.places import absolute, find_path, find_place
  from apo_jax.logs.run_directory import RunDirectory
  from apo_jax.logs.storage import problem_of
  from apo_jax.run.ownership import default_run_dir
  from apo_jax.training.loop import TrainingDiverged

  run_dir = _RUN_DIR.value or default_run_dir(config_file, config)
  try:
    run_dir = find_place(run_dir, "--run_dir")
    distributed.initialize(*process_flags())
    default_cache = absolute(RunDirectory(run_dir).compilation_cache)
    use_compilation_cache(_COMPILATION_CACHE.value, default_cache)
    share = find_path(_SHARE.value, "--share") if _SHARE.value else None
    with interrupts.listening() if jax.process_count() == 1 else contextlib.nullcontext():
      report = game.play(config, run_dir, share=share, repair=_REPAIR.value)
  except interrupts.Interrupted as interrupted:
    print(f"apo_jax: {interrupted}", file=sys.stderr)
    return interrupted.code
  except (ConfigError, NotFinite, TrainingDiverged) as error:
    return distributed.leave(refuse(str(error)))
  except Exception as error:
    sentence = problem_of(error, run_dir)
    if sentence is None:
      raise
    return distributed.leave(refuse(sentence))
  if jax.process_index() == 0:
    print(f"\nThe run is in {run_dir}; open {report} to see it.")
  return 0


def run() -> None:
  """The entry point of `python -m apo_jax.main`."""
  app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
  run()
