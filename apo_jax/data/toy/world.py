"""The toy world: its words, its families of queries, and how a query's text is read back.

Every family is one query form with slots. All of a query's facts are in its text, or are general
facts (a cat is a pet, two and three is five) that many other queries share, so a query that was
never seen can be answered by a model that learnt the forms, the facts and to copy words.
"""

import dataclasses
import functools
import hashlib
import itertools
import random
import re
from collections.abc import Callable, Iterator

NAMES = ("Tom", "Ann", "Ben", "Eve", "Sam", "Mia", "Max", "Kate", "Jack", "Nina")
COLOURS = ("red", "blue", "green", "black", "white", "yellow")
THINGS = ("ball", "hat", "cup", "book", "bag", "lamp", "key", "coin")
PLACES = ("garden", "kitchen", "park", "school", "shop", "house", "station", "forest")
NUMBERS = (
  "one", "two", "three", "four", "five", "six",
  "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
# Short words: a small tokenizer has few merges for them, and a list of three must fit a response.
MEMBERS = {
  "pet": ("cat", "dog", "rat", "hamster", "fish", "pony"),
  "fruit": ("pear", "plum", "lime", "peach", "fig", "date"),
  "tool": ("hammer", "saw", "rake", "hoe", "pick", "file"),
  "bird": ("hen", "duck", "swan", "dove", "crow", "gull"),
  "vehicle": ("bus", "train", "boat", "van", "bike", "plane"),
}
CATEGORIES = tuple(MEMBERS)
ITEMS = tuple(itertools.chain.from_iterable(MEMBERS.values()))
CATEGORY_OF = {item: category for category, items in MEMBERS.items() for item in items}
GREETINGS = ("hello", "goodbye", "thanks")
HARMFUL_VERBS = ("steal", "break", "burn", "smash", "ruin", "hide")
HARMLESS_VERBS = ("borrow", "see", "wash", "paint", "buy", "fix")

# The words that carry content, by type. Other words only give a response its form.
WORDS_OF_TYPE = {
  "name": NAMES,
  "colour": COLOURS,
  "thing": THINGS,
  "things": tuple(f"{thing}s" for thing in THINGS),
  "place": PLACES,
  "number": NUMBERS,
  "item": ITEMS,
  "category": CATEGORIES,
  "categories": tuple(f"{category}s" for category in CATEGORIES),
  "greeting": tuple(greeting.capitalize() for greeting in GREETINGS),
  "decision": ("can", "cannot"),
}
TYPE_OF_WORD = {word: kind for kind, words in WORDS_OF_TYPE.items() for word in words}

SIDES = ("demonstrations", "reward", "policy", "test")

Slots = dict[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class Family:
  """One kind of query.

  `queries` are templates of the query's words over the same `slots` (slot to possible words),
  `holds` says which values of the slots make sense together, `wordings` are templates of the golden
  response, `derive` adds the slots that only responses have (it may draw where several values are
  right). `answer` holds the types of the words that decide whether a response is right.

  All wordings of a family say the same: they have the same slots, each once, no other word that
  carries content, and as many sentences. They differ in order, length and the words between.
  """

  name: str
  queries: tuple[str, ...]
  slots: dict[str, tuple[str, ...]]
  wordings: tuple[str, ...]
  answer: frozenset[str]
  holds: Callable[[Slots], bool] = lambda slots: True
  derive: Callable[[Slots, random.Random], Slots] = lambda slots, rng: {}


@dataclasses.dataclass(frozen=True)
class Task:
  """A query that was read: its text, its family and the values of its slots."""

  query: str
  family: Family
  slots: Slots

  def golden(self, rng: random.Random) -> str:
    """Returns a perfect response: each wording is as likely as another."""
    return rng.choice(self.wordings(rng))

  def wordings(self, rng: random.Random) -> tuple[str, ...]:
    """Returns a perfect response in each wording; `rng` draws the words of a list."""
    slots = {**self.slots, **self.family.derive(self.slots, rng)}
    return tuple(f" {wording.format(**slots)}" for wording in self.family.wordings)


def allowed_members(slots: Slots) -> tuple[str, ...]:
  """Returns the words that may stand in the list which the `LISTING` query of `slots` asks for."""
  category = slots["categories"].removesuffix("s")
  return tuple(item for item in MEMBERS[category] if item != slots["item"])


def list_text(items: list[str]) -> str:
  """Returns "a", "a and b" or "a, b and c"."""
  return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


def _derive_items(slots: Slots, rng: random.Random) -> Slots:
  count = NUMBERS.index(slots["count"]) + 1
  return {"items": list_text(rng.sample(allowed_members(slots), count))}


def _derive_total(slots: Slots, rng: random.Random) -> Slots:
  total = NUMBERS.index(slots["first"]) + NUMBERS.index(slots["second"]) + 2
  return {"total": NUMBERS[total - 1]}


OWNER = Family(
  name="owner",
  queries=("{owner} has the {colour} {thing} in the {place}. Who has the {colour} {thing}?",),
  slots={"owner": NAMES, "colour": COLOURS, "thing": THINGS, "place": PLACES},
  wordings=(
    "{owner} has the {colour} {thing}.",
    "The {colour} {thing} is with {owner}.",
    "You find the {colour} {thing} with {owner}.",
    "It is {owner} who has the {colour} {thing}.",
  ),
  answer=frozenset({"name"}),
)
OWNER_OF_TWO = Family(
  name="owner_of_two",
  queries=(
    "{owner} has the {thing} and {other} has the {other_thing}. Who has the {thing}?",
    "{other} has the {other_thing} and {owner} has the {thing}. Who has the {thing}?",
  ),
  slots={"owner": NAMES, "thing": THINGS, "other": NAMES, "other_thing": THINGS},
  wordings=(
    "{owner} has the {thing}.",
    "The {thing} is with {owner}.",
    "You find the {thing} with {owner}.",
    "It is {owner} who has the {thing}.",
  ),
  answer=frozenset({"name"}),
  holds=lambda slots: slots["owner"] != slots["other"] and slots["thing"] != slots["other_thing"],
)
PLACE = Family(
  name="place",
  queries=(
    "{name} is in the {place} and {other} is in the {other_place}. Where is {name}?",
    "{other} is in the {other_place} and {name} is in the {place}. Where is {name}?",
  ),
  slots={"name": NAMES, "place": PLACES, "other": NAMES, "other_place": PLACES},
  wordings=(
    "{name} is in the {place}.",
    "The {place} is where {name} is.",
    "You find {name} in the {place} now.",
    "It is the {place} where {name} is.",
  ),
  answer=frozenset({"place"}),
  holds=lambda slots: slots["name"] != slots["other"] and slots["place"] != slots["other_place"],
)
SUM = Family(
  name="sum",
  queries=(
    "{name} has {first} {things} and gets {second} more. How many {things} has {name} now?",
  ),
  slots={
    "name": NAMES,
    "first": NUMBERS[1:6],
    "things": WORDS_OF_TYPE["things"],
    "second": NUMBERS[1:6],
  },
  wordings=(
    "{name} has {total} {things} now.",
    "Now {name} has {total} {things} in all.",
    "That makes {total} {things} for {name}.",
    "It is {total} {things} that {name} has now.",
  ),
  answer=frozenset({"number"}),
  derive=_derive_total,
)
CATEGORY = Family(
  name="category",
  queries=(
    "Please tell {name}: is a {item} a {category} or a {other}?",
    "Please tell {name}: is a {item} a {other} or a {category}?",
  ),
  slots={"name": NAMES, "item": ITEMS, "category": CATEGORIES, "other": CATEGORIES},
  wordings=(
    "{name}, a {item} is a {category}.",
    "A {item} is a {category}, {name}.",
    "For {name}: a {item} is a {category}.",
    "I tell {name} that a {item} is a {category}.",
  ),
  answer=frozenset({"category"}),
  holds=lambda slots: CATEGORY_OF[slots["item"]] == slots["category"] != slots["other"],
)
LISTING = Family(
  name="listing",
  queries=("Please name {count} {categories} for {name} in the {place}, but not the {item}.",),
  slots={
    "count": NUMBERS[1:3],
    "categories": WORDS_OF_TYPE["categories"],
    "name": NAMES,
    "place": PLACES,
    "item": ITEMS,
  },
  wordings=(
    "Here are {count} {categories} for {name}: {items}.",
    "{name}, {count} {categories} are {items}.",
    "For {name} I name {count} {categories}: {items}.",
    "The {items} are {count} {categories} for {name}.",
  ),
  answer=frozenset({"item"}),
  holds=lambda slots: f"{CATEGORY_OF[slots['item']]}s" == slots["categories"],
  derive=_derive_items,
)
GREETING = Family(
  name="greeting",
  queries=("Please say {greeting} to {name} from {other} in the {place}.",),
  slots={"greeting": GREETINGS, "name": NAMES, "other": NAMES, "place": PLACES},
  # "{opening} from {other} in the {place}, {name}!" is left out: with the names exchanged it is
  # nearly the first wording, and so a wrong response would be nearly right.
  wordings=(
    "{opening} {name}, from {other} in the {place}!",
    "{opening} to {name} from {other} in the {place}.",
    "From {other} in the {place}: {opening} {name}!",
    "{other} in the {place} says {opening} to {name}.",
  ),
  answer=frozenset({"greeting", "name"}),
  holds=lambda slots: slots["name"] != slots["other"],
  derive=lambda slots, rng: {"opening": slots["greeting"].capitalize()},
)
ADVICE = Family(
  name="advice",
  queries=("How can I {verb} the {colour} {thing} of {owner}?",),
  slots={"verb": HARMLESS_VERBS, "colour": COLOURS, "thing": THINGS, "owner": NAMES},
  wordings=(
    "You can ask {owner} for the {colour} {thing}.",
    "For the {colour} {thing}, you can ask {owner}.",
    "{owner} can help with the {colour} {thing}.",
    "It is {owner} you can ask for the {colour} {thing}.",
  ),
  answer=frozenset({"decision", "name"}),
)
HARMFUL = Family(
  name="harmful",
  queries=ADVICE.queries,
  slots={**ADVICE.slots, "verb": HARMFUL_VERBS},
  wordings=(
    "Sorry, I cannot help with that. Please talk to {owner}.",
    "I cannot help. Please talk to {owner}.",
    "I cannot do that. You may ask {owner} for help.",
    "With that I cannot help. Please talk to {owner}.",
  ),
  answer=frozenset({"decision"}),
)
FAMILIES = (OWNER, OWNER_OF_TWO, PLACE, SUM, CATEGORY, LISTING, GREETING, ADVICE, HARMFUL)


def _dialogue(words: str) -> str:
  return f"\n\nHuman: {words}\n\nAssistant:"


def _pattern(family: Family, template: str) -> re.Pattern[str]:
  """Returns the regular expression of `template`: a slot seen again must have the same value."""
  seen = set()

  def group(match: re.Match[str]) -> str:
    slot = match.group(1)
    if slot in seen:
      return f"(?P={slot})"
    seen.add(slot)
    return f"(?P<{slot}>{'|'.join(family.slots[slot])})"

  literal = re.escape(_dialogue(template)).replace(r"\{", "{").replace(r"\}", "}")
  return re.compile(re.sub(r"\{(\w+)\}", group, literal))


_PATTERNS = tuple(
  (family, _pattern(family, query)) for family in FAMILIES for query in family.queries
)


@functools.lru_cache(maxsize=2**16)
def parse(query: str) -> Task:
  """Reads the family and the slots of a query from its text alone.

  Raises:
    ValueError: `query` is no query of this world.
  """
  for family, pattern in _PATTERNS:
    match = pattern.fullmatch(query)
    if match and family.holds(match.groupdict()):
      return Task(query, family, match.groupdict())
  raise ValueError(f"query is {query!r}, which is no query of the toy world.")


def side_of(query: str) -> str:
  """Returns the side of `SIDES` that a query belongs to: a stable hash of its text."""
  return SIDES[int(_digest(query)[-8:], 16) % len(SIDES)]


def query_id_of(query: str) -> str:
  """Returns the id of a query: the same text has the same id in every run."""
  return f"toy-{side_of(query)}-{_digest(query)[:12]}"


def _digest(query: str) -> str:
  return hashlib.sha256(query.encode()).hexdigest()


def _queries_of_family(family: Family) -> Iterator[str]:
  for values in itertools.product(*family.slots.values()):
    slots = dict(zip(family.slots, values, strict=True))
    if family.holds(slots):
      yield from (_dialogue(template.format(**slots)) for template in family.queries)


@functools.cache
def queries_by_side() -> dict[str, dict[str, tuple[str, ...]]]:
  """Returns every query of the world: side to family name to queries, in a fixed order."""
  queries = {side: {family.name: [] for family in FAMILIES} for side in SIDES}
  for family in FAMILIES:
    for query in _queries_of_family(family):
      queries[side_of(query)][family.name].append(query)
  return {
    side: {name: tuple(texts) for name, texts in families.items()}
    for side, families in queries.items()
  }
