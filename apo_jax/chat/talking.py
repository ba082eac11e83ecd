"""The chat's loop: lines from a terminal or a pipe, answers to the standard output."""

import contextlib
import importlib
import sys
from collections.abc import Iterator

import jax

from apo_jax.chat.request import Request, check
from apo_jax.chat.screen import shown
from apo_jax.chat.session import Session
from apo_jax.chat.speakers import gather
from apo_jax.config.fields import ConfigError
from apo_jax.config.visible import visible_lines

_PROMPT = "> "


def talk(asked: Request) -> None:
  """Chats until the input ends.

  From a pipe each line is a user turn or a command, and nothing but answers and what is said of
  them goes to the standard output. In a terminal a wrong command is told and the chat goes on.

  Raises:
    ConfigError: what is asked for is not there; from a pipe also for a wrong line.
  """
  check(asked)
  in_terminal = sys.stdin.isatty() and sys.stdout.isatty()
  company = gather(asked, _say)
  session = Session(company, temperature=asked.temperature, seed=asked.seed, say=_say)
  if in_terminal:
    names = " and ".join(speaker.name for speaker in company.speakers)
    raters = " and ".join(rater.name for rater in company.raters) or "nobody"
    how = f"temperature {asked.temperature:g}" if asked.temperature else "greedy"
    _say(f"{names} answer{'' if ' and ' in names else 's'}, {how}; rewards by {raters}.")
    _say("/help lists commands, Ctrl-D ends.")
  with jax.set_mesh(company.mesh):
    for number, line in enumerate(_typed() if in_terminal else _piped(), start=1):
      try:
        if line.startswith("/"):
          if not session.command(line):
            return
        elif line.strip():
          print(shown(session.turn(line.strip())), end="\n\n", flush=True)
      except ConfigError as error:
        if not in_terminal:
          raise ConfigError(f"line {number}: {error}") from error
        _say(str(error))


def _typed() -> Iterator[str]:
  """The lines of a terminal, with what the platform has for editing and repeating them."""
  with contextlib.suppress(ImportError):  # which Windows has not
    importlib.import_module("readline")  # it changes `input`
  while True:
    try:
      yield input(_PROMPT)
    except EOFError:
      print()
      return


def _piped() -> Iterator[str]:
  """The lines of a pipe or a file."""
  for number, line in enumerate(sys.stdin.buffer, start=1):
    try:
      yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
      raise ConfigError(f"line {number} is not UTF-8 text: {error.reason}.") from error


def _say(sentence: str) -> None:
  """What is beside the answers."""
  print(visible_lines(sentence), file=sys.stderr, flush=True)
