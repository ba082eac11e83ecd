"""How a command ends that cannot go on: what its user can mend is one sentence and exit code 2.

All commands end here, so that none of them answers a mistake with a traceback. What is no mistake
of the user, but ours, keeps its traceback: it is what a report of the bug needs.
"""

from collections.abc import Callable

from apo_jax.config.command_line import refuse
from apo_jax.config.fields import ConfigError
from apo_jax.logs.places import Place
from apo_jax.logs.storage import chain, problem_of

# What XLA calls a device, or a host, that has no room for an array.
_NO_MEMORY = "RESOURCE_EXHAUSTED"


def ended(
  work: Callable[[], int],
  place: Place,
  leave: Callable[[int, str], int] = lambda code, sentence: code,
) -> int:
  """Does the work of a command; returns its exit code, 2 where it is refused.

  Args:
    work: what the command does; returns its exit code.
    place: the directory that it reads or writes, named where an error names no file.
    leave: is told the exit code and the sentence; returns the code, or tells other processes first.
  """
  try:
    return work()
  except Exception as error:
    sentence = sentence_of(error, place)
    if sentence is None:
      raise
    return leave(refuse(sentence), sentence)


def sentence_of(error: Exception, place: Place, *told: type[Exception]) -> str | None:
  """What is said of an error that its user can mend; None of any other.

  Args:
    error: what ended a command.
    place: as in `ended`.
    told: classes of errors, beside ConfigError, whose message is the sentence.
  """
  if isinstance(error, (ConfigError, *told)):
    return str(error)
  problem = problem_of(error, place)  # first: TensorStore calls a full disk as XLA a full memory
  if problem is not None:
    return problem
  for one in chain(error):
    if isinstance(one, MemoryError) or _NO_MEMORY in str(one):
      lines = str(one).strip().splitlines()
      said = f" ({lines[0].rstrip('.')})" if lines else ""
      return (
        f"The memory is full{said}; take smaller batches, lengths or models, or more devices"
        " (docs/memory.md). What is finished is kept, and the same command goes on."
      )
  return None
