"""Many runs that differ in some fields, each played as `apo_jax.main` would.

    python -m apo_jax.sweep --config=configs/demo.py --set policy.loss=rjs,rrhf,dpo --seeds=5

Phases that are equal between runs, such as the supervised start of a seed, are played once. The
same command goes on where it was stopped; docs/sweeps.md says more.
"""

import signal
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from apo_jax.config.command_line import find_config_file, parse_flags, refuse, say
from apo_jax.config.config_file import define_config
from apo_jax.config.fields import ConfigError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_CONFIG = define_config("The experiment; fields set as in --config.rounds=1 hold for all runs.")
_SET = flags.DEFINE_multi_string(
  "set",
  [],
  "FIELD=VALUE,VALUE: a run for each value; again for another field, then for each pair of values."
  " FIELD,FIELD=VALUE:VALUE,VALUE:VALUE sets fields together. config=FILE,FILE: a run for each"
  " config file, in --config's stead.",
)
_SEEDS = flags.DEFINE_string(
  "seeds", None, "How many seeds, from 0, of each; or which, as in 3,7 (one seed: 7,)."
)
_JOBS = flags.DEFINE_integer(
  "jobs", 1, "Runs played at once, each on its share of the cores, or of the GPUs."
)
_SWEEP_DIR = flags.DEFINE_string(
  "sweep_dir", None, "Where the runs are kept; by default runs/sweeps/NAME-HASH of the config."
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "Print the runs' commands, one a line, as for a cluster's array job."
)


def main(arguments: list[str]) -> int:
  """Plays the sweep that the flags describe; returns the exit code."""
  logging.set_verbosity(logging.WARNING)
  try:
    config_file = find_config_file(arguments)
    if _JOBS.value < 1:
      raise ConfigError(f"--jobs is {_JOBS.value}; it must be at least 1.")
    from apo_jax.config.folders import check_folder
    from apo_jax.logs.places import find_path
    from apo_jax.sweep.grid import make_grid
    from apo_jax.sweep.placement import places
    from apo_jax.sweep.runs import default_directory, plan

    grid = make_grid(_SET.value, _SEEDS.value)
    default = default_directory(config_file, _CONFIG.value)
    sweep_dir = find_path(_SWEEP_DIR.value or default, "--sweep_dir")
    check_folder("--sweep_dir", sweep_dir)
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    runs, sentences = plan(config_file, overrides, grid, sweep_dir)
    taken = places(_JOBS.value)
  except ConfigError as error:
    return refuse(str(error))
  if _DRY_RUN.value:
    print("\n".join(run.command for run in runs))
    return 0
  from apo_jax.logs.endings import ended
  from apo_jax.sweep.schedule import Schedule
  from apo_jax.sweep.table import Display

  received: list[int] = []
  for number in _SIGNALS:
    signal.signal(number, lambda number, _: received.append(number))

  def work() -> int:
    schedule = Schedule(runs, taken, sweep_dir)
    with Display() as display:
      for sentence in sentences:
        display.message(sentence)
      display.message(f"{len(runs)} runs in {sweep_dir}, {_JOBS.value} at once.")
      schedule.play(display.show, lambda: bool(received))
      display.last(schedule.rows())
    if received:
      return _stopped(received[0])
    for name, said in schedule.failed.items():
      refuse(f"the run {name} failed: {said}")
    _compare([run.run_dir for run in runs if run.name not in schedule.failed], sweep_dir)
    return 1 if schedule.failed else 0

  return ended(work, sweep_dir)


def _stopped(number: int) -> int:
  """Says that a signal ends the sweep; its exit code."""
  name = signal.Signals(number).name
  print(f"Stopped by {name}; what is finished is kept, and the same command goes on.", flush=True)
  return 128 + number


def _compare(finished: list[Path], sweep_dir: Path) -> None:
  """Compares the finished runs, or says why not; a signal ends it at once."""
  for number in _SIGNALS:  # no run is left that must be ended first
    signal.signal(number, lambda number, _: sys.exit(_stopped(number)))
  from apo_jax.compare.comparison import compare
  from apo_jax.compare.page import write
  from apo_jax.compare.text import render

  if not finished:
    return
  try:
    comparison = compare(finished)
    page = write(comparison, sweep_dir / "comparison")
  except ConfigError as error:
    say(f"The runs are not compared: {error}")
    return
  say(f"{render(comparison)}\n\n{page}")


def run() -> None:
  """The entry point of `python -m apo_jax.sweep`."""
  app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
  run()
