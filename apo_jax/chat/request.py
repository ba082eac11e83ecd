"""What is asked for: the flags as one record, checked against each other before anything else."""

import dataclasses
import math

from apo_jax.config.fields import ConfigError, read_value
from apo_jax.logs.places import find_place
from apo_jax.objectives.ranges import Tokens


@dataclasses.dataclass(frozen=True)
class Request:
  """Whom to chat with, and how they answer; "" or None is what was not given.

  Attributes:
    run: a run's directory.
    round: its round; by default the last that finished.
    compare: two rounds, each of which answers.
    policy: a language model's directory or hub name, or RUN:ROUND, in the place of a run.
    reward_model: the same of a reward model; by default each round's own.
    temperature: at which answers are drawn; 0 is greedy.
    seed: of what is drawn.
    max_new_tokens: of an answer; by default the run's evaluation's, or 256.
  """

  run: str = ""
  round: int | None = None
  compare: tuple[str, ...] = ()
  policy: str = ""
  reward_model: str = ""
  temperature: float = 0.0
  seed: int = 0
  max_new_tokens: int | None = None

  @property
  def rounds(self) -> tuple[int | None, ...]:
    """The run's rounds that answer."""
    return tuple(map(int, self.compare)) or (self.round,)


def check(asked: Request) -> None:
  """Checks the flags against each other.

  Raises:
    ConfigError: for the first that does not fit, with what would.
  """
  if bool(asked.run) == bool(asked.policy):
    given = f"--run is {asked.run!r} beside --policy, {asked.policy!r}" if asked.run else ""
    raise ConfigError(
      f"{given or 'Nobody to chat with is named'}; give --run=RUN or --policy=DIR, one of them."
    )
  if asked.run and not find_place(asked.run, "--run").is_dir():
    raise ConfigError(f"--run is {asked.run!r}, which is no directory; give that of a run.")
  for name in ("round", "compare"):
    value = getattr(asked, name)
    if value not in (None, ()) and not asked.run:
      said = ",".join(value) if name == "compare" else value
      raise ConfigError(f"--{name} is {said} without --run; name the run whose rounds are meant.")
  if asked.compare:
    _check_compared(asked)
  check_temperature(asked.temperature, "--temperature")
  check_seed(asked.seed, "--seed")
  if asked.max_new_tokens is not None:
    read_value(Tokens, asked.max_new_tokens, "--max_new_tokens")


def check_temperature(value: float, what: str) -> float:
  """The temperature; raises ConfigError, naming `what` gave it, where it can be none."""
  if not math.isfinite(value) or value < 0:
    raise ConfigError(f"{what} is {value}; it must be a number of at least 0, and 0 is greedy.")
  return value


def check_seed(value: int, what: str) -> int:
  """The seed; raises ConfigError, naming `what` gave it, where it can be none."""
  if value < 0:
    raise ConfigError(f"{what} is {value}; it must be a whole number of at least 0.")
  return value


def _check_compared(asked: Request) -> None:
  given = ",".join(asked.compare)
  numbers = [one.strip() for one in asked.compare]
  are_rounds = all(one.isascii() and one.isdigit() for one in numbers)
  if len(numbers) != 2 or not are_rounds or int(numbers[0]) == int(numbers[1]):
    raise ConfigError(f"--compare is {given!r}; it must be two rounds, as in --compare=0,3.")
  if asked.round is not None:
    raise ConfigError(f"--round is {asked.round} beside --compare, {given!r}; give one of them.")
