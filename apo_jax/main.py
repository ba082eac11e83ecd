"""The command line: `python -m apo_jax.main --config=configs/demo.py`. Kept short."""

import contextlib
import os
import signal
import sys

from absl import app, flags, logging

from apo_jax.config import command_line
from apo_jax.config.checks import from_config_dict
from apo_jax.config.command_line import (
  find_config_file,
  parse_flags,
  process_flags,
  process_flags_of,
  refuse,
  value_of,
  with_config_of_run,
)
from apo_jax.config.config_file import define_config
from apo_jax.config.fields import ConfigError
from apo_jax.logs.places import is_bucket

_REFUSED = 2

flags.adopt_module_key_flags(command_line)  # so that --help shows them
_CONFIG = define_config("The experiment; any field can be set, as in --config.policy.loss=rrhf.")
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
    config_file = find_config_file(arguments, ", or the --run_dir of a run that is there")
    logging.set_verbosity(logging.WARNING)
    config = from_config_dict(_CONFIG.value)
  except ConfigError as error:
    refuse(str(error))
    _tell_the_others(str(error))
    return _REFUSED
  # Imported late, so that a wrong flag or field is answered at once.
  import jax

  from apo_jax import game
  from apo_jax.devices import distributed, interrupts
  from apo_jax.devices.compilation_cache import use_compilation_cache
  from apo_jax.inference.scoring import NotFinite
  from apo_jax.logs.endings import sentence_of
  from apo_jax.logs.places import absolute, find_path, find_place
  from apo_jax.logs.run_directory import RunDirectory
  from apo_jax.run.ownership import default_run_dir
  from apo_jax.training.loop import TrainingDiverged

  run_dir = _RUN_DIR.value or default_run_dir(config_file, config)
  try:
    distributed.initialize(*process_flags())
    run_dir = find_place(run_dir, "--run_dir")
    default_cache = absolute(RunDirectory(run_dir).compilation_cache)
    use_compilation_cache(_COMPILATION_CACHE.value, default_cache)
    share = find_path(_SHARE.value, "--share") if _SHARE.value else None
    with interrupts.listening() if jax.process_count() == 1 else contextlib.nullcontext():
      report = game.play(config, run_dir, share=share, repair=_REPAIR.value)
  except interrupts.Interrupted as interrupted:
    return distributed.leave(refuse(str(interrupted), interrupted.code), str(interrupted))
  except Exception as error:
    sentence = sentence_of(error, run_dir, NotFinite, TrainingDiverged)
    if sentence is None:
      raise
    return distributed.leave(refuse(sentence), sentence)
  if jax.process_index() == 0:
    command_line.say(f"\nThe run is in {run_dir}; open {report} to see it.")
  return 0


def _tell_the_others(sentence: str) -> None:
  """Ends with this process those that would wait for it, where there are several."""
  processes = process_flags_of(sys.argv)
  if any(processes):
    from apo_jax.devices import distributed

    logging.set_verbosity(logging.WARNING)
    distributed.leave_before_joining(_REFUSED, sentence, processes)


def run() -> None:
  """The entry point of `python -m apo_jax.main`."""
  # Until a game listens itself, Ctrl-C ends the process without a traceback of imports.
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  app.run(main, flags_parser=parse)


def parse(arguments: list[str]) -> list[str]:
  """Parses flags; a run directory that is there knows its config, so that none need be given."""
  typed, run_dir = [*arguments], value_of(arguments, "run_dir")
  # Whether a run is there in a bucket is found out where its config is read.
  if run_dir and (is_bucket(run_dir) or os.path.isfile(os.path.join(run_dir, "config.json"))):
    # ml_collections looks for overrides there.
    sys.argv[:] = arguments[:] = with_config_of_run(arguments, "run_dir")
  return parse_flags(arguments, typed=typed, refused=_tell_the_others)


if __name__ == "__main__":
  run()
