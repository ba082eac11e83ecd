"""The ways in which responses of the toy world fall short of the golden ones.

A corruption takes a task, a golden response to it and a random generator, and returns a response of
utility below 1. Each applies to some families only.
"""

import dataclasses
import random
import re
from collections.abc import Callable

from apo_jax.data.toy import world
from apo_jax.data.toy.world import ADVICE, FAMILIES, HARMFUL, LISTING, Family, Task


def cut_off(task: Task, golden: str, rng: random.Random) -> str:
  """Stops in the middle, as a response does that reaches its length limit."""
  words = golden.split()
  return " " + " ".join(words[: rng.randint(1, len(words) - 1)]).rstrip(".,:!")


def repeated(task: Task, golden: str, rng: random.Random) -> str:
  """Says everything twice."""
  return golden * 2


def wrong_answer(task: Task, golden: str, rng: random.Random) -> str:
  """Puts another word of the same type, often one from the query, in place of the answer."""
  # A harmful query's answer is to refuse, which has its own corruptions, and in advice only the
  # name is free: there a wrong answer names somebody else.
  types = {"name"} if task.family in (ADVICE, HARMFUL) else task.family.answer
  pieces = re.split(r"(\w+)", golden)
  places = [i for i, word in enumerate(pieces) if world.TYPE_OF_WORD.get(word) in types]
  place = rng.choice(places)
  right = pieces[place]
  pool = _wrong_words(task, right)
  asked = [word for word in pool if re.search(rf"\b{word}\b", task.query)]
  pieces[place] = rng.choice(asked if asked and rng.random() < 0.5 else pool)
  return "".join(pieces)


def vague(task: Task, golden: str, rng: random.Random) -> str:
  """Does not answer."""
  return rng.choice((" I do not know.", " I am not sure."))


def unsafe_compliance(task: Task, golden: str, rng: random.Random) -> str:
  """Helps with a harmful request."""
  place = rng.choice(world.PLACES)
  return " You can {verb} the {colour} {thing} in the {place}.".format(**task.slots, place=place)


def unneeded_refusal(task: Task, golden: str, rng: random.Random) -> str:
  """Declines a harmless request, in the words that decline harmful ones."""
  name = task.slots.get("owner") or task.slots["name"]
  return " " + rng.choice(HARMFUL.wordings).format(owner=name)


def missing_item(task: Task, golden: str, rng: random.Random) -> str:
  """Leaves out one of the words that were asked for."""
  before, items, after = _listed(golden)
  items.pop(rng.randrange(len(items)))
  return before + world.list_text(items) + after


def duplicate_item(task: Task, golden: str, rng: random.Random) -> str:
  """Names the same word twice."""
  before, items, after = _listed(golden)
  first, second = rng.sample(range(len(items)), 2)
  items[first] = items[second]
  return before + world.list_text(items) + after


def rude(task: Task, golden: str, rng: random.Random) -> str:
  """Answers well and insults the user."""
  return golden + rng.choice((" You are a fool!", " You are stupid.", " Go away, you idiot!"))


def rambling(task: Task, golden: str, rng: random.Random) -> str:
  """Adds a sentence that has nothing to do with the query."""
  return golden + rng.choice(
    (
      f" I like the {rng.choice(world.COLOURS)} {rng.choice(world.THINGS)}.",
      f" The {rng.choice(world.PLACES)} is nice.",
    )
  )


@dataclasses.dataclass(frozen=True)
class Corruption:
  """A corruption and the families it applies to."""

  apply: Callable[[Task, str, random.Random], str]
  families: frozenset[Family]


_HARMLESS = frozenset(FAMILIES) - {HARMFUL}
CUT_OFF = Corruption(cut_off, frozenset(FAMILIES))
REPEATED = Corruption(repeated, frozenset(FAMILIES))
WRONG_ANSWER = Corruption(wrong_answer, frozenset(FAMILIES))
VAGUE = Corruption(vague, frozenset(FAMILIES))
UNSAFE_COMPLIANCE = Corruption(unsafe_compliance, frozenset({HARMFUL}))
UNNEEDED_REFUSAL = Corruption(unneeded_refusal, _HARMLESS)
MISSING_ITEM = Corruption(missing_item, frozenset({LISTING}))
DUPLICATE_ITEM = Corruption(duplicate_item, frozenset({LISTING}))
RUDE = Corruption(rude, frozenset(FAMILIES))
RAMBLING = Corruption(rambling, frozenset(FAMILIES))
CORRUPTIONS = (
  CUT_OFF, REPEATED, WRONG_ANSWER, VAGUE, UNSAFE_COMPLIANCE,
  UNNEEDED_REFUSAL, MISSING_ITEM, DUPLICATE_ITEM, RUDE, RAMBLING,
)  # fmt: skip


def _wrong_words(task: Task, right: str) -> list[str]:
  words = world.WORDS_OF_TYPE[world.TYPE_OF_WORD[right]]
  if task.family is LISTING:
    words = [word for word in words if word not in world.allowed_members(task.slots)]
  return [word for word in words if word != right]


def _listed(golden: str) -> tuple[str, list[str], str]:
  """The text before the list of a golden response, the listed words, and the text after them."""
  items = re.findall(r"\w+", golden)
  items = [word for word in items if world.TYPE_OF_WORD.get(word) == "item"]
  before, after = golden.split(world.list_text(items))
  return before, items, after
