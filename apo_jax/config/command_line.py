"""What the commands share: the flags that join processes, and how wrong ones are refused."""

import itertools
import re
import sys
import textwrap

from absl import flags
from ml_collections import config_flags

from apo_jax.config.fields import ConfigError, allowed, hint_of

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


def refuse(sentence: str, code: int = 2) -> int:
  """Says what is wrong; returns the exit code."""
  print(f"apo_jax: {sentence}", file=sys.stderr)
  return code


def find_config_file(arguments: list[str]) -> str:
  """The path that --config names; `arguments` are what is left of the command line, its name first.

  Raises:
    ConfigError: something there is no flag, or --config is missing.
  """
  if len(arguments) > 1:
    raise ConfigError(f"{arguments[1]!r} is not a flag; did you mean --config={arguments[1]}?")
  if flags.FLAGS["config"].value is None:
    raise ConfigError("--config is missing; give a config file, such as --config=configs/demo.py.")
  return config_flags.get_config_filename(flags.FLAGS["config"])


def parse_flags(arguments: list[str]) -> list[str]:
  """Parses like absl, but says what is wrong in one sentence, without a traceback or a usage.

  Then the process ends with the exit code 2. Asked for help, it prints the flags and the fields of
  a config, and exits with 0.
  """
  if _HELP & set(itertools.takewhile(lambda argument: argument != "--", arguments[1:])):
    print(_help())
    sys.exit(0)
  try:
    return parse_with(flags.FLAGS, arguments)
  except ConfigError as error:
    sys.exit(refuse(str(error)))


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
  given = textwrap.shorten(" ".join(arguments[1:]), _MOST_GIVEN, placeholder=" …")
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
