"""A player of a run, as files that `transformers` or `peft` loads.

    python -m apo_jax.export --run=runs/demo-1a2b3c4d --player=policy --output=exports/policy

The weights are laid over all devices there are, whatever mesh the run had, and gathered tensor by
tensor. With several processes every one is started like this; the first writes.
"""

from pathlib import Path

from absl import app, flags, logging

from apo_jax.config import command_line

flags.adopt_module_key_flags(command_line)  # so that --help shows them
_RUN = flags.DEFINE_string("run", None, "The run's directory.")
_ROUND = flags.DEFINE_integer(
  "round", None, "The round that left the player so, 0 for its start; by default the last finished."
)
_PLAYER = flags.DEFINE_enum(
  "player", "policy", ["policy", "reward", "testing_reward"], "Whom to export."
)
_OUTPUT = flags.DEFINE_string("output", None, "The directory to write; it must be new or empty.")
_ADAPTER = flags.DEFINE_bool(
  "adapter", False, "Write the adapters alone, as PEFT files; else they are merged."
)
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "The weights' type.")


def main(arguments: list[str]) -> int:
  """Exports what the flags say; returns the exit code."""
  if len(arguments) > 1:
    return command_line.refuse(
      f"{arguments[1]!r} is not a flag; did you mean --run={arguments[1]}?"
    )
  for name, flag in (("run", _RUN), ("output", _OUTPUT)):
    if not flag.value:
      return command_line.refuse(f"--{name} is missing; give a directory.")
  logging.set_verbosity(logging.WARNING)
  # Imported late, so that a wrong flag is answered at once.
  import jax

  from apo_jax.devices import distributed
  from apo_jax.export.run import export
  from apo_jax.logs.endings import ended
  from apo_jax.logs.places import find_path, find_place

  def work() -> int:
    distributed.initialize(*command_line.process_flags())
    exported = export(
      find_place(_RUN.value, "--run"),
      find_path(_OUTPUT.value, "--output"),
      player=_PLAYER.value,
      round=_ROUND.value,
      adapter=_ADAPTER.value,
      dtype=_DTYPE.value,
    )
    if jax.process_index() == 0:
      command_line.say(f"{exported} is in {_OUTPUT.value}; its README.md says how it is used.")
    return 0

  return ended(work, Path(_OUTPUT.value), distributed.leave)


if __name__ == "__main__":
  app.run(main, flags_parser=command_line.parse_flags)
