"""The command line: `python -m apo_jax.main --config=configs/demo.py`. Kept short."""

import os
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The experiment; any field can be set, as in --config.policy.method=rrhf."
)
_RUN_DIR = flags.DEFINE_string(
  "run_dir", None, "Where the run is kept; by default runs/NAME-HASH of the config."
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "Join the other processes of a TPU slice, GKE or Slurm job."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator_address", None, "host:port of process 0, where the processes are not found."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")


def main(arguments: list[str]) -> int:
  """Plays the game that the flags describe; returns the exit code."""
  if len(arguments) > 1:
    return _refuse(f"{arguments[1]!r} is not a flag; did you mean --config={arguments[1]}?")
  if _CONFIG.value is None:
    return _refuse("--config is missing; give a config file, such as --config=configs/demo.py.")
  # transformers says at import that it has no PyTorch; none is needed.
  os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
  # Imported late, so that a wrong flag is answered at once.
  import jax

  from apo_jax import distributed, game
  from apo_jax.config import ConfigError, from_config_dict
  from apo_jax.training import TrainingDiverged

  logging.set_verbosity(logging.WARNING)
  try:
    config = from_config_dict(_CONFIG.value)
    distributed.initialize(
      _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _DISTRIBUTED.value
    )
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    run_dir = Path(_RUN_DIR.value or f"runs/{name}-{game.identity(config)}")
    report = game.play(config, run_dir)
  except (ConfigError, TrainingDiverged) as error:
    return distributed.leave(_refuse(str(error)))
  if jax.process_index() == 0:
    print(f"\nThe run is in {run_dir}; open {report} to see it.")
  return 0


def _refuse(sentence: str) -> int:
  print(f"apo_jax: {sentence}", file=sys.stderr)
  return 2


def _parse_flags(arguments: list[str]) -> list[str]:
  """absl's parsing, but a field that the config does not have is one sentence, not a traceback."""
  try:
    return app.parse_flags_with_usage(arguments)
  except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
    sys.exit(_refuse(f"{_message(error)} (in {' '.join(arguments[1:])})"))


def _message(error: Exception) -> str:
  # A KeyError shows its message quoted.
  text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
  return " ".join(text.split())


def run() -> None:
  """The entry point of `python -m apo_jax.main` and of the apo_jax command."""
  app.run(main, flags_parser=_parse_flags)


if __name__ == "__main__":
  run()
