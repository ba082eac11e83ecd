"""A chat: turns to one or two speakers, each with a dialogue of its own, and commands between."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

from apo_jax.chat.dialogue import Dialogue
from apo_jax.chat.request import check_seed, check_temperature
from apo_jax.chat.speakers import Company, Rater, Speaker
from apo_jax.config.fields import ConfigError
from apo_jax.data.templates import HhForm
from apo_jax.run.seeds import derive_key

HELP = """\
/seed N         draws with another seed, a whole number
/temperature T  0 is greedy, 1 the policy as it is
/system TEXT    the system turn that opens the dialogue from now on; without TEXT there is none
/reset          begins the dialogue anew; the system turn stays
/help           this list
/quit           ends the chat, as Ctrl-D does
A line that is to begin with / and is no command begins with a blank."""


class Reply(NamedTuple):
  """What a speaker answered.

  Attributes:
    name: of the speaker.
    text: the answer.
    verdict: its rewards, and whether it was cut off, in words; "" where there is nothing to say.
  """

  name: str
  text: str
  verdict: str


class Session:
  """The state of a chat.

  Args:
    company: who takes part.
    temperature: at which answers are drawn.
    seed: with which they are drawn.
    say: hears what is beside the answers.
  """

  def __init__(
    self, company: Company, *, temperature: float, seed: int, say: Callable[[str], None]
  ):
    self._company = company
    self._temperature = temperature
    self._seed = seed
    self._say = say
    self._system = ""
    self._turn = 0
    self._dialogues = self._new_dialogues()

  def turn(self, said: str) -> list[Reply]:
    """The answers of all speakers to a user turn; only with all of them it is kept.

    Raises:
      ConfigError: a chat template refuses the dialogue, or no answer fits behind it.
    """
    pairs = list(zip(self._company.speakers, self._dialogues, strict=True))
    replies = [self._answer(speaker, dialogue, said) for speaker, dialogue in pairs]
    for (_, dialogue), reply in zip(pairs, replies, strict=True):
      dialogue.add(said, reply.text)
    self._turn += 1
    return replies

  def command(self, line: str) -> bool:
    """Does what a line that begins with "/" says; returns whether the chat goes on.

    Raises:
      ConfigError: it is no command, or its argument is none.
    """
    name, _, argument = line.strip().partition(" ")
    argument = argument.strip()
    known = {
      "/seed": self._set_seed,
      "/temperature": self._set_temperature,
      "/system": self._set_system,
    }
    if name in known:
      known[name](argument)
      return True
    if name not in ("/reset", "/help", "/quit"):
      raise ConfigError(f"{name} is no command; /help lists those that are.")
    if argument:
      raise ConfigError(f"{name} takes nothing behind it, but {argument!r} is there.")
    if name == "/help":
      self._say(HELP)
    elif name == "/reset":
      self._dialogues = self._new_dialogues()
      self._turn = 0
      self._say("The dialogue begins anew.")
    return name != "/quit"

  def _new_dialogues(self) -> list[Dialogue]:
    return [Dialogue(isinstance(one.codec.form, HhForm)) for one in self._company.speakers]

  def _answer(self, speaker: Speaker, dialogue: Dialogue, said: str) -> Reply:
    query = dialogue.query(self._system, said)
    codec = speaker.codec
    ((whole,), (ids,)) = codec.form.query_ids([query]), codec.encode_queries([query])
    if len(ids) < len(whole):
      self._say(
        f"The dialogue has {len(whole):,} tokens, more than the {codec.query_length:,} of a query;"
        f" {speaker.name} reads {len(ids):,}, the rest is cut off as in training."
      )
    how = dataclasses.replace(speaker.sampler, temperature=self._temperature)
    key = derive_key(self._seed, "chat", self._turn)
    answer = speaker.answering(speaker.parameters, ids, key, how)
    words = []
    if self._company.raters:
      found = [(one, one.rating(one.parameters, query, answer)) for one in self._company.raters]
      words.append(_rewards(found))
    if not answer.finished:
      words.append(f"cut off at {how.max_new_tokens:,} tokens")
    return Reply(speaker.name, answer.text.strip(), ", ".join(words))

  def _set_seed(self, argument: str) -> None:
    try:
      seed = int(argument)
    except ValueError as error:
      raise ConfigError(f"/seed is {argument!r}; it must be a whole number, as /seed 3.") from error
    self._seed = check_seed(seed, "/seed")
    self._say(f"The seed is {self._seed}.")

  def _set_temperature(self, argument: str) -> None:
    try:
      temperature = float(argument)
    except ValueError as error:
      raise ConfigError(
        f"/temperature is {argument!r}; it must be a number, as /temperature 0.7."
      ) from error
    self._temperature = check_temperature(temperature, "/temperature")
    self._say(f"The temperature is {self._temperature:g}.")

  def _set_system(self, argument: str) -> None:
    self._system = argument
    self._say("The system turn is set." if argument else "There is no system turn.")


def _rewards(found: list[tuple[Rater, float | None]]) -> str:
  """One reward, or those of several reward models by their names."""
  if len(found) == 1:
    return f"reward {_number(found[0][1])}"
  return "reward " + ", ".join(f"{_number(value)} by {rater.name}" for rater, value in found)


def _number(reward: float | None) -> str:
  if reward is None:
    return "of nothing, as query and answer fit no row"
  return f"{reward:.3f}" if math.isfinite(reward) else "that is no finite number"
