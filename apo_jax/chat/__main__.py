"""Talk with a policy: each answer comes with its reward by the round's reward model.

    python -m apo_jax.chat --run=runs/demo-1a2b3c4d
    python -m apo_jax.chat --run=runs/demo-1a2b3c4d --compare=0,3
    python -m apo_jax.chat --policy=DIR --reward_model=DIR < questions.txt

docs/chat.md has more. A run is only read.
"""

import functools
import os
import sys

from absl import app, flags, logging

from apo_jax.chat.request import Request
from apo_jax.config import command_line

INTERRUPTED = 130  # the exit code of a command that Ctrl-C ends

_ASKED = Request()

flags.DEFINE_string("run", "", "A run's directory.")
flags.DEFINE_integer("round", None, "The run's round, 0 for its start; by default the last.")
flags.DEFINE_list("compare", [], "Two rounds that both answer, as in --compare=0,3.")
flags.DEFINE_string("policy", "", "A checkpoint's directory or hub name, in the place of a run.")
flags.DEFINE_string("reward_model", "", "Who rates the answers; by default each round's own.")
flags.DEFINE_float("temperature", _ASKED.temperature, "At which answers are drawn; 0 is greedy.")
flags.DEFINE_integer("seed", _ASKED.seed, "Of what is drawn.")
flags.DEFINE_integer("max_new_tokens", None, "Of an answer; by default as the run's, or 256.")


def main(arguments: list[str]) -> int:
  """Chats as the flags say; returns the exit code."""
  if len(arguments) > 1:
    return command_line.refuse(
      f"{arguments[1]!r} is not a flag; did you mean --run={arguments[1]}?"
    )
  logging.set_verbosity(logging.WARNING)
  given = flags.FLAGS.flag_values_dict()
  asked = Request(
    **{name: given[name] for name in vars(_ASKED) if name != "compare"},
    compare=tuple(given["compare"]),
  )
  # Imported late, so that a wrong flag is answered at once.
  from apo_jax.chat.talking import talk
  from apo_jax.logs.endings import ended
  from apo_jax.logs.places import place_of

  def work() -> int:
    try:
      talk(asked)
    except BrokenPipeError:  # who read the answers has gone; nothing is left to flush
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0

  try:
    return ended(work, place_of(asked.run or "."))
  except KeyboardInterrupt:
    print("\nStopped.", file=sys.stderr)
    return INTERRUPTED


if __name__ == "__main__":
  app.run(main, flags_parser=functools.partial(command_line.parse_flags, reads_input=True))
