"""A new run from a finished round of another, with changed fields.

    python -m apo_jax.branch --run=runs/demo-1a2b3c4d --from=1 --run_dir=runs/slower \\
      --config.policy.training.learning_rate=1e-5

Rounds 0 to --from are copied, the players with them, and branch.json says where they come from. The
command that plays on is printed.
"""

import shlex
import sys

from absl import app, flags, logging

from apo_jax.config import command_line
from apo_jax.config.checks import from_config_dict
from apo_jax.config.config_file import define_config
from apo_jax.config.fields import ConfigError

_CONFIG = define_config(
  "Fields to change, as in --config.policy.loss=rrhf; the others stay the run's."
)
_RUN = flags.DEFINE_string("run", None, "The directory of the run to branch from.")
_FROM = flags.DEFINE_integer("from", None, "The last round that is taken over, 0 for the start.")
_RUN_DIR = flags.DEFINE_string("run_dir", None, "The new run's directory; it must be new or empty.")


def main(arguments: list[str]) -> int:
  """Branches as the flags say; returns the exit code."""
  if len(arguments) > 1:
    return command_line.refuse(
      f"{arguments[1]!r} is not a flag; did you mean --run={arguments[1]}?"
    )
  logging.set_verbosity(logging.WARNING)
  missing = [name for name in ("run", "from", "run_dir") if flags.FLAGS[name].value is None]
  if missing:
    return command_line.refuse(
      f"--{missing[0]} is missing; give --run=RUN --from=ROUND --run_dir=NEW."
    )
  try:
    config = from_config_dict(_CONFIG.value)
    # Imported late, so that a wrong flag or field is answered at once.
    from apo_jax.branch.branching import branch
    from apo_jax.logs.endings import ended
    from apo_jax.logs.places import find_path, find_place
    from apo_jax.logs.run_directory import RunDirectory

    run_dir = find_path(_RUN_DIR.value, "--run_dir", "a branch is made there")
  except ConfigError as error:
    return command_line.refuse(str(error))

  def work() -> int:
    source = RunDirectory(find_place(_RUN.value, "--run"))
    made = branch(source, config, _FROM.value, RunDirectory(run_dir))
    again = shlex.join(["python", "-m", "apo_jax.main", f"--run_dir={run_dir}"])
    command_line.say(f"{made.sentence}\nIt is in {run_dir} and plays on with\n\n    {again}\n")
    return 0

  return ended(work, run_dir)


def parse(arguments: list[str]) -> list[str]:
  """Parses flags, the config that is changed being the run's.

  `--config` itself is no flag of this command.
  """
  if command_line.value_of(arguments, "config") is not None:
    sys.exit(
      command_line.refuse(
        "--config is given, but a branched run has the config of its run; give the fields that"
        " change, as in --config.policy.training.learning_rate=1e-5."
      )
    )
  # ml_collections looks for overrides there.
  typed = [*arguments]
  sys.argv[:] = arguments[:] = command_line.with_config_of_run(arguments, "run")
  return command_line.parse_flags(arguments, typed=typed)


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
