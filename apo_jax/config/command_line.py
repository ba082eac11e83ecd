"""What the commands share: the flags that join processes, and how wrong ones are refused."""

import contextlib
import copy
import itertools
import os
import re
import sys
import textwrap
import types
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from apo_jax.config.fields import ConfigError, allowed, hint_of
from apo_jax.config.said_once import say_errors_once
from apo_jax.config.visible import make_logs_visible, visible_lines

_CONFIG_OF_RUN = Path(__file__).resolve().parent.parent / "run" / "config_file.py"
_DEBUGGERS = ("run_with_pdb", "pdb_post_mortem")  # absl's flags: a debugger is talked with
_MOST_GIVEN = 200  # characters of a command line that a message repeats
_FIELDS = "config."
_NAMED_FLAG = re.compile(r"flag --([\w.]+)=")
# ml_collections, of a group of fields that a config file leaves out, as model.shape may be.
_LEFT_OUT = re.compile(r"Override ([\w.]+) can not be applied|of field config\.([\w.]+) is not")
# What a flag of a type must be, in words.
_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false"}
_HELP = {"--help", "-help", "-h", "-?", "--helpshort", "--helpfull"}
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "Join the other processes of a TPU slice, GKE or Slurm job."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator_address", None, "host:port of process 0, where the processes are not found."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")


def process_flags() -> tuple[str | None, int | None, int | None, bool]:
  """What the flags say of the run's processes: the arguments of `distributed.initialize`."""
  return _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _DISTRIBUTED.value


def process_flags_of(arguments: list[str]) -> tuple[str | None, int | None, int | None, bool]:
  """The same of a command line whose other flags may be wrong."""
  values = flags.FlagValues()
  for holder in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID, _DISTRIBUTED):
    values[holder.name] = copy.deepcopy(flags.FLAGS[holder.name])
  try:
    values(arguments, known_only=True)
  except flags.Error:
    return None, None, None, False
  return (
    values["coordinator_address"].value,
    values["num_processes"].value,
    values["process_id"].value,
    values["distributed"].value,
  )


def refuse(sentence: str, code: int = 2) -> int:
  """Says what is wrong; returns the exit code."""
  print(f"apo_jax: {visible_lines(sentence)}", file=sys.stderr)
  return code


def say(text: str) -> None:
  """Prints lines that may hold names or texts of strangers to the standard output."""
  print(visible_lines(text), flush=True)


def end_without_traceback() -> None:
  """Has Ctrl-C end this command with a sentence, once what it holds is let go of."""
  report = sys.excepthook

  def say_why(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
  ) -> None:
    if issubclass(kind, KeyboardInterrupt):
      refuse("Ended by SIGINT.")  # Python then ends by that signal: 130, as shells have it
    else:
      report(kind, error, trace)

  sys.excepthook = say_why


def find_config_file(arguments: list[str], otherwise: str = "") -> str:
  """The path that --config names.

  Args:
    arguments: what is left of the command line, its name first.
    otherwise: what else may be given, behind the advice to give a config file.

  Raises:
    ConfigError: something there is no flag, or --config is missing.
  """
  if len(arguments) > 1:
    raise ConfigError(f"{arguments[1]!r} is not a flag; did you mean --config={arguments[1]}?")
  if flags.FLAGS["config"].value is None:
    raise ConfigError(
      f"--config is missing; give a config file, such as --config=configs/demo.py{otherwise}."
    )
  return config_flags.get_config_filename(flags.FLAGS["config"])


def with_config_of_run(arguments: Sequence[str], flag: str) -> list[str]:
  """A command line with the config of the run that `flag` names as its --config.

  It is left as it is where it has a --config or no such flag. ml_collections looks for overrides in
  `sys.argv`, behind --config, so that the caller has to put the new one there too.
  """
  program, *given = arguments
  run_dir = value_of(given, flag)
  if value_of(given, "config") is not None or not run_dir:
    return [*arguments]
  return [program, f"--config={_CONFIG_OF_RUN}:--{flag}={run_dir}", *given]


def value_of(arguments: Sequence[str], flag: str) -> str | None:
  """What a flag is given as on a command line, the last time; None where it is not."""
  expanded, found = [*arguments], None
  with contextlib.suppress(flags.Error):  # a --flagfile that is not there is named by the parser
    expanded = flags.FLAGS.read_flags_from_files(expanded, force_gnu=False)
  for place, argument in enumerate(expanded):
    name, equals, value = argument.partition("=")
    if argument == "--":
      break
    if name in (f"--{flag}", f"-{flag}"):
      found = value if equals else next(iter(expanded[place + 1 :]), "")
  return found


def parse_flags(
  arguments: list[str],
  typed: Sequence[str] | None = None,
  reads_input: bool = False,
  refused: Callable[[str], None] = lambda sentence: None,
) -> list[str]:
  """Parses like absl, but says what is wrong in one sentence, without a traceback or a usage.

  Then `refused` is told, and the process ends with the exit code 2; the sentence repeats the
  command line, or what was `typed` of it. Asked for help, it prints the flags and the fields of a
  config, and exits with 0.

  From here on logs are visible, and without `reads_input` nobody can be asked a question:
  transformers would ask whether a checkpoint's own code may run, and take what a pipe holds for
  the answer.
  """
  make_logs_visible()
  say_errors_once()
  end_without_traceback()
  if _HELP & set(itertools.takewhile(lambda argument: argument != "--", arguments[1:])):
    print(_help())
    sys.exit(0)
  try:
    rest = parse_with(flags.FLAGS, arguments, typed)
  except ConfigError as error:
    refuse(str(error))
    refused(str(error))
    sys.exit(2)
  debugs = any(flags.FLAGS.get_flag_value(name, False) for name in _DEBUGGERS)
  if not (reads_input or debugs):
    _close_input()
  return rest


def _close_input() -> None:
  """Whoever reads the standard input finds its end."""
  nothing = os.open(os.devnull, os.O_RDONLY)
  os.dup2(nothing, 0)
  os.close(nothing)


def _help() -> str:
  """What the command does, its flags, and where it takes a config, every field of one."""
  said = (sys.modules["__main__"].__doc__ or "").strip()
  # The first line names the file of the command.
  _, _, shown = flags.FLAGS.main_module_help().strip().partition("\n")
  parts = [said, f"Flags:\n{shown}"]
  if "config" in flags.FLAGS:
    from apo_jax.config.help import config_help  # imports what alone a config needs
    from apo_jax.config.schema import Config

    parts.append(f"Fields of a config, with their defaults:\n{config_help(Config())}")
  return "\n\n".join(parts)


def parse_with(
  values: flags.FlagValues, arguments: list[str], typed: Sequence[str] | None = None
) -> list[str]:
  """Parses flags into `values`; returns the arguments that are none.

  Args:
    values: the flags.
    arguments: the command line.
    typed: what of it a message repeats; all where it is not given.

  Raises:
    ConfigError: they cannot be parsed.
  """
  try:
    return values(arguments)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    problem: BaseException = error
  # absl takes the ConfigError of a config file for a value that is none.
  if isinstance(problem.__context__, ConfigError):
    raise problem.__context__
  message = _own_words(values, _given(arguments), problem)
  given = textwrap.shorten(" ".join((typed or arguments)[1:]), _MOST_GIVEN, placeholder=" …")
  raise ConfigError(message or f"{_words_of(problem)} (given: {given}).") from problem


def _given(arguments: list[str]) -> dict[str, str]:
  """The values that a command line gives its flags, by their names."""
  found = {}
  for place, one in enumerate(arguments[1:], start=1):
    name, equals, value = one.lstrip("-").partition("=")
    if one.startswith("-") and name:
      found[name] = value if equals else "".join(arguments[place + 1 : place + 2])
  return found


def _own_words(values: flags.FlagValues, given: dict[str, str], problem: BaseException) -> str:
  """What is wrong with a flag, and what it must be, where that is known; else nothing."""
  named = _NAMED_FLAG.match(str(problem))
  left_out = _LEFT_OUT.search(str(problem))
  if left_out:
    field = f"{_FIELDS}{left_out[1] or left_out[2]}"
    return (
      f"{field} is {given.get(field, '')!r}, but the file of --config leaves its group of fields"
      " out; set the whole group there."
    )
  if isinstance(problem, flags.IllegalFlagValueError) and named and named[1] in given:
    name = named[1]
    value = given[name]
    if not name.startswith(_FIELDS) and values[name].flag_type() in _TYPES:
      return f"--{name} is {value!r}; it must be {_TYPES[values[name].flag_type()]}."
    fields = [name] if name.startswith(_FIELDS) else []
  elif isinstance(problem, AttributeError | KeyError | TypeError | ValueError):
    fields = [name for name in given if name.startswith(_FIELDS)]  # one that the config has not
  else:
    return ""
  from apo_jax.config.schema import Config  # imports what alone a config needs

  for field in fields:
    wanted = allowed(hint_of(Config, field, given[field]))
    if named:
      return f"{field} is {given[field]!r}; it must be {wanted}."
  return ""


def _words_of(problem: BaseException) -> str:
  """What absl or ml_collections say, as one line."""
  said = str(problem.args[0] if problem.args else problem)
  if isinstance(problem, AttributeError | KeyError):  # ml_collections' hint is a quotation of one
    said = said.replace("\\n", "; ").replace("\\", "").replace("'", "").strip('"')
    said = f"the config has no field {said}"
  return " ".join(said.split()).rstrip(".")
