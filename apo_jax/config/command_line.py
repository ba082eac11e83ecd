"""What the commands share: the flags that join processes, and how wrong ones are refused."""

import contextlib
import copy
import itertools
import os
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from apo_jax.config.fields import ConfigError
from apo_jax.config.visible import make_logs_visible, visible, visible_lines

_CONFIG_OF_RUN = Path(__file__).resolve().parent.parent / "run" / "config_file.py"
_DEBUGGERS = ("run_with_pdb", "pdb_post_mortem")  # absl's flags: a debugger is talked with
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
    ConfigError: something there is no flag, or --config is missing or names no file.
  """
  if len(arguments) > 1:
    raise ConfigError(f"{arguments[1]!r} is not a flag; did you mean --config={arguments[1]}?")
  if flags.FLAGS["config"].value is None:
    raise ConfigError(
      f"--config is missing; give a config file, such as --config=configs/demo.py{otherwise}."
    )
  path = config_flags.get_config_filename(flags.FLAGS["config"])
  # ml_collections passes what follows a colon to the file's get_config.
  if not Path(path.split(":")[0]).is_file():
    raise ConfigError(f"--config is {path!r}, and there is no such file.")
  return path


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
  code: int = 2,
  typed: Sequence[str] | None = None,
  reads_input: bool = False,
  refused: Callable[[str], None] = lambda sentence: None,
) -> list[str]:
  """Parses like absl, but says what is wrong in one sentence, without a traceback or a usage.

  Then `refused` is told, and the process ends with the exit code `code`; the sentence repeats the
  command line, or what was `typed` of it. Asked for help, it prints the flags and the fields of a
  config, and exits with 0.

  From here on logs are visible, and without `reads_input` nobody can be asked a question:
  transformers would ask whether a checkpoint's own code may run, and take what a pipe holds for
  the answer.
  """
  make_logs_visible()
  end_without_traceback()
  if _HELP & set(itertools.takewhile(lambda argument: argument != "--", arguments[1:])):
    print(_help())
    sys.exit(0)
  try:
    rest = parse_with(flags.FLAGS, arguments)
  except ConfigError as error:
    sentence = visible(f"{error} (given: {' '.join((typed or arguments)[1:])})")
    refuse(sentence, code)
    refused(sentence)
    sys.exit(code)
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


def parse_with(values: flags.FlagValues, arguments: list[str]) -> list[str]:
  """Parses flags into `values`; returns the arguments that are none.

  Raises:
    ConfigError: they cannot be parsed; its sentence does not repeat them.
  """
  try:
    return values(arguments)
  except (AttributeError, KeyError) as error:  # ml_collections' way to say "no such field"
    # Its hint comes as the quotation of a quotation.
    hint = str(error.args[0]).replace("\\n", "; ").replace("\\", "").replace("'", "").strip('"')
    message = f"the config has no field {hint}"
    if "get_config" in hint:
      message = "the file of --config has no function get_config()"
  except (flags.Error, TypeError, ValueError) as error:
    # What a config file raises comes with its traceback, whose last line says what is wrong.
    message = str(error)
    if "Traceback" in message:
      last = message.strip().splitlines()[-1]
      _, is_sentence, sentence = last.partition("ConfigError: ")
      message = sentence if is_sentence else f"the file of --config fails: {last}"
  raise ConfigError(" ".join(message.split()))
