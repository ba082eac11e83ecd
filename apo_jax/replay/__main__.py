"""The batch whose update gave no number, run alone.

    python -m apo_jax.replay --run=runs/demo-1a2b3c4d

The state before the update is made again from the last good checkpoint, with the run's data; then
it is said which array is first not finite, how long the gradient is, and what each row has to do
with it. Nothing is written. The exit code is 0 where the failure is reproduced, 1 where it is not.
"""

from absl import app, flags, logging

from apo_jax.config import command_line

_RUN = flags.DEFINE_string("run", None, "The run's directory.")


def main(arguments: list[str]) -> int:
  """Replays what the flags say; returns the exit code."""
  if len(arguments) > 1:
    return command_line.refuse(
      f"{arguments[1]!r} is not a flag; did you mean --run={arguments[1]}?"
    )
  if not _RUN.value:
    return command_line.refuse("--run is missing; give the directory of a run.")
  logging.set_verbosity(logging.WARNING)
  # Imported late, so that a wrong flag is answered at once.
  from apo_jax.logs.endings import ended
  from apo_jax.logs.places import find_place, place_of
  from apo_jax.replay.replaying import replay
  from apo_jax.replay.text import lines

  def work() -> int:
    found = replay(find_place(_RUN.value, "--run"), command_line.say)
    for line in lines(found):
      command_line.say(line)
    return 0 if found.reproduced else 1

  return ended(work, place_of(_RUN.value))


if __name__ == "__main__":
  app.run(main, flags_parser=command_line.parse_flags)
