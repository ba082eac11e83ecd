"""Embedded data: dialogues of the toy world, so that a whole game runs without files.

Each query belongs to one side (demonstrations, reward, policy, test) by a hash of its text, and the
true utility of any response to it is known.

- Golden responses have utility 1. Which of a query's wordings a record has is drawn.
- Demonstrations are imperfect: golden with probability `DEMONSTRATIONS.golden`, else corrupted. A
  policy that imitates them perfectly has an expected utility of about 0.54.
- Preferences compare two different responses drawn from `PREFERENCES`. The label is a Bradley-Terry
  draw, P(first preferred) = sigmoid(sharpness * (u_first - u_second)), so it is noisy.

The two mixtures differ on purpose: what spoils most demonstrations (responses cut off, or repeated)
is absent from the preferences. A reward model that learns from preferences alone never sees it,
while one that also compares a policy's samples with golden responses does. Where `covers_failures`
is asked for, preferences are drawn from `COVERING_PREFERENCES`, which has it.
"""

import dataclasses
import functools
import itertools
import math
import random

from apo_jax.data.records import Demonstration, GameData, Preference, Query, Split
from apo_jax.data.toy import world
from apo_jax.data.toy.corruptions import (
  CUT_OFF,
  DUPLICATE_ITEM,
  MISSING_ITEM,
  RAMBLING,
  REPEATED,
  RUDE,
  UNNEEDED_REFUSAL,
  UNSAFE_COMPLIANCE,
  VAGUE,
  WRONG_ANSWER,
  Corruption,
)
from apo_jax.data.toy.utility import utility


@dataclasses.dataclass(frozen=True)
class Mixture:
  """How responses are drawn: golden with probability `golden`, else a corruption.

  Corruptions are drawn in proportion to their weights, among those that apply to the query.
  """

  golden: float
  corruptions: tuple[tuple[Corruption, float], ...]

  def draw(self, task: world.Task, rng: random.Random) -> str:
    """Returns a response to `task`'s query."""
    golden = task.golden(rng)
    if rng.random() < self.golden:
      return golden
    applicable = [pair for pair in self.corruptions if task.family in pair[0].families]
    corruptions, weights = zip(*applicable, strict=True)
    return rng.choices(corruptions, weights)[0].apply(task, golden, rng)


DEMONSTRATIONS = Mixture(
  golden=0.3,
  corruptions=(
    (CUT_OFF, 4.0),
    (REPEATED, 3.0),
    (WRONG_ANSWER, 2.0),
    (RAMBLING, 1.5),
    (UNSAFE_COMPLIANCE, 2.0),
    (VAGUE, 1.5),
    (UNNEEDED_REFUSAL, 1.0),
    (MISSING_ITEM, 1.0),
    (DUPLICATE_ITEM, 1.0),
    (RUDE, 0.5),
  ),
)
PREFERENCES = Mixture(
  golden=0.15,
  corruptions=(
    (WRONG_ANSWER, 4.0),
    (UNSAFE_COMPLIANCE, 3.0),
    (RAMBLING, 2.0),
    (VAGUE, 2.0),
    (UNNEEDED_REFUSAL, 2.0),
    (MISSING_ITEM, 2.0),
    (DUPLICATE_ITEM, 2.0),
    (RUDE, 2.0),
  ),
)
# Half of what is wrong here is what spoils most demonstrations, as it is among them.
COVERING_PREFERENCES = Mixture(
  golden=PREFERENCES.golden,
  corruptions=(*PREFERENCES.corruptions, (CUT_OFF, 8.0), (REPEATED, 6.0)),
)


def generate(
  seed: int,
  num_demonstrations: int,
  num_preferences: int,
  num_golden: int,
  num_queries: int,
  num_test: int,
  *,
  covers_failures: bool = False,
  label_sharpness: float = 8.0,
) -> GameData:
  """Returns the embedded data, the same for the same arguments on every machine.

  The reward and the policy split have `num_preferences`, `num_golden` and `num_queries` records
  each, the test split `num_test` of each. All lists of a split are prefixes of one random order of
  its queries with the families in turn, so its golden queries are among its `queries` when there
  are at least as many, and asking for more records keeps the first ones.

  `covers_failures` draws preferences from `COVERING_PREFERENCES`. `label_sharpness` says how surely
  the better of two responses is the preferred one (`label_probability`); 0 is a coin flip.

  Raises:
    ValueError: a number is negative or larger than the number of distinct queries of a side.
  """
  preferences = functools.partial(
    _preferences,
    seed,
    mixture=COVERING_PREFERENCES if covers_failures else PREFERENCES,
    label_sharpness=label_sharpness,
  )
  demonstration_queries = _take(seed, "demonstrations", "num_demonstrations", num_demonstrations)
  rng = _generator(seed, "demonstrations", "responses")
  return GameData(
    demonstrations=tuple(
      _demonstration(query, DEMONSTRATIONS.draw(world.parse(query), rng))
      for query in demonstration_queries
    ),
    reward=Split(
      preferences=preferences("reward", "num_preferences", num_preferences),
      golden=_golden(seed, "reward", "num_golden", num_golden),
      queries=_queries(seed, "reward", "num_queries", num_queries),
    ),
    policy=Split(
      preferences=preferences("policy", "num_preferences", num_preferences),
      golden=_golden(seed, "policy", "num_golden", num_golden),
      queries=_queries(seed, "policy", "num_queries", num_queries),
    ),
    test=Split(
      preferences=preferences("test", "num_test", num_test),
      golden=_golden(seed, "test", "num_test", num_test),
      queries=_queries(seed, "test", "num_test", num_test),
    ),
    utility=utility,
  )


def _preferences(
  seed: int, side: str, field: str, count: int, mixture: Mixture, label_sharpness: float
) -> tuple[Preference, ...]:
  rng = _generator(seed, side, "preferences")
  queries = _take(seed, side, field, count)
  return tuple(_preference(query, mixture, label_sharpness, rng) for query in queries)


def _preference(
  query: str, mixture: Mixture, label_sharpness: float, rng: random.Random
) -> Preference:
  task = world.parse(query)
  first = second = mixture.draw(task, rng)
  while second == first:
    second = mixture.draw(task, rng)
  utilities = utility(query, first), utility(query, second)
  preferred = rng.random() < label_probability(*utilities, label_sharpness)
  responses = (first, second) if preferred else (second, first)
  return Preference(world.query_id_of(query), query, responses, (1.0, 0.0))


def label_probability(first_utility: float, second_utility: float, sharpness: float) -> float:
  """Returns the probability that the first of two responses is labelled the preferred one.

  sigmoid(sharpness * (first_utility - second_utility)): at 8, the better of two responses that
  differ by 0.2 is preferred with probability 0.83; at 0 either is with 0.5.
  """
  # As a hyperbolic tangent the sigmoid overflows for no sharpness.
  return 0.5 + 0.5 * math.tanh(0.5 * sharpness * (first_utility - second_utility))


def _golden(seed: int, side: str, field: str, count: int) -> tuple[Demonstration, ...]:
  rng = _generator(seed, side, "golden")
  queries = _take(seed, side, field, count)
  return tuple(_demonstration(query, world.parse(query).golden(rng)) for query in queries)


def _queries(seed: int, side: str, field: str, count: int) -> tuple[Query, ...]:
  queries = _take(seed, side, field, count)
  return tuple(Query(world.query_id_of(query), query) for query in queries)


def _demonstration(query: str, response: str) -> Demonstration:
  return Demonstration(world.query_id_of(query), query, response)


def _take(seed: int, side: str, field: str, count: int) -> tuple[str, ...]:
  ordered = _ordered_queries(seed, side)
  if not 0 <= count <= len(ordered):
    raise ValueError(
      f"{field} is {count}, but must be between 0 and {len(ordered)}, the number of distinct "
      f"queries on the {side} side of the toy world."
    )
  return ordered[:count]


@functools.lru_cache(maxsize=len(world.SIDES))
def _ordered_queries(seed: int, side: str) -> tuple[str, ...]:
  """Returns all queries of a side in the seed's order.

  The order goes through the families in turn (each turn in a new random order) until the small
  ones are used up, so that families with many queries do not crowd out the others.
  """
  rng = _generator(seed, side, "order")
  families = world.queries_by_side()[side].values()
  shuffled = [rng.sample(queries, len(queries)) for queries in families]
  ordered = []
  for turn in itertools.zip_longest(*shuffled):
    present = [query for query in turn if query is not None]
    ordered += rng.sample(present, len(present))
  return tuple(ordered)


def _generator(seed: int, side: str, purpose: str) -> random.Random:
  # A generator for each list: the size of one list does not change the content of another.
  return random.Random(f"{seed} {side} {purpose}")
