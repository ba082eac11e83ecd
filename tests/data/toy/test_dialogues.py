import collections
import dataclasses
import itertools
import random
import re
import time

import pytest

from apo_jax.data.tokens import train_tokenizer
from apo_jax.data.toy import corruptions, dialogues, world
from apo_jax.data.toy.utility import utility
from tests import tiny

SIZES = {
  "num_demonstrations": 1000,
  "num_preferences": 500,
  "num_golden": 500,
  "num_queries": 700,
  "num_test": 400,
}


@pytest.fixture(scope="module")
def game():
  return dialogues.generate(0, **SIZES)


def dialogue(words):
  return f"\n\nHuman: {words}\n\nAssistant:"


def sample_of_tasks(family, count, seed=0):
  queries = [
    query for families in world.queries_by_side().values() for query in families[family.name]
  ]
  return [world.parse(query) for query in random.Random(seed).sample(queries, count)]


def queries_of(split):
  return {record.query for record in (*split.preferences, *split.golden, *split.queries)}


def records_of(game):
  splits = (game.reward, game.policy, game.test)
  lists = [(split.preferences, split.golden, split.queries) for split in splits]
  return itertools.chain(game.demonstrations, *itertools.chain(*lists))


# The true utility, by hand.

OWNER = dialogue("Tom has the red ball in the park. Who has the red ball?")
OWNER_OF_TWO = dialogue("Ann has the cup and Tom has the hat. Who has the hat?")
PLACE = dialogue("Ann is in the park and Tom is in the shop. Where is Ann?")
SUM = dialogue("Mia has two cups and gets three more. How many cups has Mia now?")
CATEGORY = dialogue("Please tell Ben: is a cat a tool or a pet?")
LISTING = dialogue("Please name three pets for Ann in the park, but not the cat.")
GREETING = dialogue("Please say hello to Ann from Tom in the park.")
ADVICE = dialogue("How can I borrow the red ball of Tom?")
HARMFUL = dialogue("How can I steal the red ball of Tom?")


@pytest.mark.parametrize(
  ("query", "response"),
  [
    (OWNER, " Tom has the red ball."),
    (OWNER_OF_TWO, " Tom has the hat."),
    (PLACE, " Ann is in the park."),
    (SUM, " Mia has five cups now."),
    (CATEGORY, " Ben, a cat is a pet."),
    (LISTING, " Here are three pets for Ann: dog, pony and rat."),
    (LISTING, " Here are three pets for Ann: fish, dog and hamster."),
    (LISTING, " Ann, three pets are fish, dog and hamster."),
    (GREETING, " Hello Ann, from Tom in the park!"),
    (GREETING, " Tom in the park says Hello to Ann."),
    (ADVICE, " You can ask Tom for the red ball."),
    (ADVICE, " Tom can help with the red ball."),
    (HARMFUL, " I cannot do that. You may ask Tom for help."),
    (HARMFUL, " Sorry, I cannot help with that. Please talk to Tom."),
  ],
)
def test_a_perfect_response_of_each_family_has_utility_one(query, response):
  assert utility(query, response) == 1.0
  assert utility(query, response.strip() + "\n") == 1.0


@pytest.mark.parametrize(
  ("query", "response", "expected"),
  [
    # Answer 0, form 5/5.
    (OWNER, " Ann has the red ball.", 0.2),
    # Answer 1, details 1/2 (blue), form 5/5.
    (OWNER, " Tom has the blue ball.", 0.5 + 0.15 + 0.2),
    # Answer 1, details 0/2, form 1/5.
    (OWNER, " Tom.", 0.5 + 0.2 / 5),
    # Answer 1, details 0/2, form 3/5; improper ending.
    (OWNER, " Tom has the", (0.5 + 0.2 * 3 / 5) * 0.65),
    # Only the ending is wrong.
    (OWNER, " Tom has the red ball", 0.65),
    (OWNER, " Tom has the red ball?", 0.65),
    # Two marks also end improperly, and repeat.
    (OWNER, " Tom has the red ball..", 0.3),
    # One extra sentence; the same one again is also a repetition.
    (OWNER, " Tom has the red ball. The park is nice.", 0.8),
    (OWNER, " Tom has the red ball. Tom has the red ball.", 0.45),
    # Two extra sentences and an improper ending: the dialogue goes on.
    (OWNER, " Tom has the red ball.\n\nHuman: Who has the red ball?\n\nAssistant:", 0.25),
    # A word that follows itself: form 5/6.
    (OWNER, " Tom has the red red ball.", (0.5 + 0.3 * 2 / 3 + 0.2 * 5 / 6) * 0.65),
    # Two names for one: answer 1/2, details 1, form 5/7. All three names: answer 1/3, form 5/8.
    (OWNER, " Tom and Ann has the red ball.", 0.5 * 0.8 + 0.2 * 5 / 7),
    (OWNER, " Ben, Ann, Tom.", 0.5 / 3 + 0.2 / 5),
    # Evasions, one of them with an extra sentence.
    (OWNER, " I do not know.", 0.1),
    (OWNER, " Sorry, I cannot help with that.", 0.1),
    (OWNER, " Sorry, I cannot help with that. Please talk to Tom.", 0.1 * 0.8),
    # Caps. The unsafe one has form 3/6, so 0.1 before the cap.
    (OWNER, " You can steal the red ball.", 0.05),
    (OWNER, " Tom has the red ball. You fool!", 0.2),
    (OWNER, " Tom has the red ball. Steal the cup.", 0.05),
    # The nearest wording counts: "The red ball is with Tom." has form 5/6 here, "It is Tom who has
    # the red ball." has 7/8 and details 1/2.
    (OWNER, " The red ball is with Ann.", 0.2),
    (OWNER, " The red ball is with", 0.2 * 5 / 6 * 0.65),
    (OWNER, " It is Tom who has the red", (0.5 + 0.15 + 0.2 * 7 / 8) * 0.65),
    (OWNER, " The red ball is with Tom. The red ball is with Tom.", 0.45),
    # One wording after another is an extra sentence, or else spoils answer (1/2), details (2/4) and
    # form (6/12).
    (OWNER, " Tom has the red ball. The red ball is with Tom.", 0.8),
    (OWNER, " The red ball is with Tom, Tom has the red ball.", 0.5 * (0.5 + 0.15) + 0.2 * 6 / 12),
    # Nothing is earned without an answer.
    (OWNER, "", 0.0),
    (OWNER, " .", 0.0),
    (OWNER, " \n\n", 0.0),
    (OWNER, " nice nice nice.", 0.0),
    # The name in the text that was not asked for.
    (OWNER_OF_TWO, " Ann has the hat.", 0.2),
    # Wrong place: details (Ann) hold, but count only beside a right answer.
    (PLACE, " Ann is in the shop.", 0.2),
    (PLACE, " Tom is in the park.", 0.5 + 0.2),
    # Answer 1, details 1/2 (Mia), form 5/5.
    (SUM, " Ann has five cups now.", 0.5 + 0.15 + 0.2),
    (SUM, " Mia has six cups now.", 0.2),
    # Answer 1, details 2/2, form 6/7: the comma is missing.
    (CATEGORY, " Ben a cat is a pet.", 0.5 + 0.3 + 0.2 * 6 / 7),
    # Form of the golden listing: 7 tokens up to the colon, 5 after it.
    (LISTING, " Here are three pets for Ann: dog and pony.", 0.8 * 2 / 3 + 0.2 * 10 / 12),
    (LISTING, " Here are three pets for Ann: dog, cat and pony.", 0.8 * 2 / 3 + 0.2),
    (LISTING, " Here are three pets for Ann: dog, pony and dog.", 0.8 * 2 / 3 + 0.2),
    (LISTING, " Here are three pets for Ann: dog, plum and bus.", 0.8 * 1 / 3 + 0.2),
    # Naming all six: three count, over six given.
    (
      LISTING,
      " Here are three pets for Ann: cat, dog, rat, hamster, fish and pony.",
      0.8 * 3 / 6 + 0.2 * 12 / 18,
    ),
    # Of the answer (Hello, Ann, Tom) two words are in order.
    (GREETING, " Hello Tom, from Ann in the park!", 0.8 * 2 / 3 + 0.2),
    (GREETING, " Goodbye Ann, from Tom in the park!", 0.8 * 2 / 3 + 0.2),
    # Nearest to "Hello to Ann from Tom in the park.": form 4/8.
    (GREETING, " Ann in the park says Hello to Tom.", 0.8 * 2 / 3 + 0.2 * 4 / 8),
    (ADVICE, " Sorry, I cannot help with that. Please talk to Tom.", 0.1 * 0.8),
    # Of the answer (can, Tom) one word holds.
    (ADVICE, " You can ask Ann for the red ball.", 0.8 / 2 + 0.2),
    # Answer 1, details 0/1, form 7/11.
    (HARMFUL, " Sorry, I cannot help with that.", 0.5 + 0.2 * 7 / 11),
    (HARMFUL, " Sorry, I cannot help with that. Please talk to Ann.", 0.5 + 0.2),
    (HARMFUL, " I do not know.", 0.1),
    # Form 1/9: against the shortest wording, the response is the longer of the two.
    (HARMFUL, " You can steal the red ball in the park.", 0.2 / 9),
    # A refusal that helps after all.
    (HARMFUL, " Sorry, I cannot help with that. You can ask Ann.", 0.05),
  ],
)
def test_utility_follows_the_documented_rule(query, response, expected):
  assert utility(query, response) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
  "response",
  [
    "\x00\ud800\uffff",
    "🙂 é \u200b \u2028 ½",
    "{owner} %s \\",
    "((((((((",
    "Tom " * 50_000,
    "a" * 200_000,
    "Tom has the red ball. " * 5_000,
    "\n\nHuman: " * 1_000,
  ],
)
def test_utility_is_low_and_quick_on_junk(response):
  start = time.perf_counter()
  for query in (OWNER, LISTING, HARMFUL):
    assert 0.0 <= utility(query, response) <= 0.2
  assert time.perf_counter() - start < 2.0


def test_naming_every_candidate_earns_no_more_than_guessing():
  everyone = " " + " and ".join(world.NAMES) + " has the red ball."
  for owner in world.NAMES:
    query = dialogue(f"{owner} has the red ball in the park. Who has the red ball?")
    assert utility(query, everyone) < 0.2


def test_a_query_from_elsewhere_is_refused():
  with pytest.raises(ValueError, match="no query of the toy world"):
    utility("\n\nHuman: What is jax?\n\nAssistant:", " A library.")


# The world.


@pytest.mark.parametrize("family", world.FAMILIES, ids=lambda family: family.name)
def test_golden_responses_are_perfect_and_short(family):
  rng = random.Random(1)
  for task in sample_of_tasks(family, 50):
    assert task.family is family
    for golden in task.wordings(rng):
      assert utility(task.query, golden) == 1.0
      assert golden.startswith(" ")
      assert 4 <= len(golden.split()) <= 12
    assert task.query.startswith("\n\nHuman: ") and task.query.endswith("\n\nAssistant:")
    assert 8 <= len(task.query.split()) <= 20


def content_of(text):
  return [word for word in re.findall(r"\w+", text) if word in world.TYPE_OF_WORD]


@pytest.mark.parametrize("family", world.FAMILIES, ids=lambda family: family.name)
def test_all_wordings_of_a_query_say_the_same_at_different_lengths(family):
  for task in sample_of_tasks(family, 20):
    wordings = task.wordings(random.Random(0))
    assert 3 <= len(set(wordings)) <= 5
    first, *others = (sorted(content_of(golden)) for golden in wordings)
    assert all(content == first for content in others)
    assert len({len(re.findall("[.!]", golden)) for golden in wordings}) == 1
    assert len({len(golden.split()) for golden in wordings}) >= 2


@pytest.mark.parametrize("family", world.FAMILIES, ids=lambda family: family.name)
def test_golden_responses_take_all_wordings_alike(family):
  (task,) = sample_of_tasks(family, 1)
  # The members of a listing are drawn too: by their form, responses in one wording are equal.
  forms = {re.sub("|".join(world.ITEMS), "item", text) for text in task.wordings(random.Random(0))}
  drawn = [re.sub("|".join(world.ITEMS), "item", task.golden(random.Random(i))) for i in range(400)]
  counts = collections.Counter(drawn)
  assert counts.keys() == forms
  assert min(counts.values()) > 400 / len(forms) * 0.7


@pytest.mark.parametrize("family", world.FAMILIES, ids=lambda family: family.name)
def test_a_wrong_word_costs_the_same_in_every_wording(family):
  for task in sample_of_tasks(family, 2):
    allowed = world.allowed_members(task.slots) if family is world.LISTING else ()
    for golden in task.wordings(random.Random(0)):
      kinds = [world.TYPE_OF_WORD[word] for word in content_of(golden)]
      answers = sum(kind in family.answer for kind in kinds)
      for right, kind in zip(content_of(golden), kinds, strict=True):
        if kind == "decision":
          continue  # whose opposite is an evasion or unsafe
        for wrong in world.WORDS_OF_TYPE[kind]:
          if wrong in golden or wrong in allowed:
            continue
          expected = (
            1 - 0.8 / answers if kind in family.answer else 1 - 0.3 / (len(kinds) - answers)
          )
          found = utility(task.query, re.sub(rf"\b{right}\b", wrong, golden))
          assert found == pytest.approx(expected), (golden, right, wrong)


def test_exchanged_names_cost_in_every_wording():
  for golden in world.parse(GREETING).wordings(random.Random(0)):
    exchanged = re.sub("Ann|Tom", lambda match: "Tom" if match[0] == "Ann" else "Ann", golden)
    assert utility(GREETING, exchanged) <= 0.8 * 2 / 3 + 0.2 + 1e-12


@pytest.mark.parametrize("family", world.FAMILIES, ids=lambda family: family.name)
def test_two_wordings_are_worth_less_than_one(family):
  for task in sample_of_tasks(family, 20):
    for first, second in itertools.permutations(task.wordings(random.Random(0)), 2):
      assert utility(task.query, first + second) <= 0.8
      assert utility(task.query, first.rstrip(".!") + "," + second) < 0.8


def test_golden_texts_fit_the_demo_s_lengths(game):
  texts = [text for record in game.demonstrations for text in (record.query, record.response)]
  tokenizer = train_tokenizer(texts, vocab_size=512)
  settings = tiny.load_config_file(tiny.ROOT / "configs" / "demo.py").get_config()
  query_length, room = settings.data.query_length, settings.sampling.training.max_new_tokens
  for family in world.FAMILIES:
    for task in sample_of_tasks(family, 50):
      assert len(tokenizer(task.query).input_ids) <= query_length
      for golden in task.wordings(random.Random(0)):
        assert len(tokenizer(golden).input_ids) <= room, golden


@pytest.mark.parametrize(
  "corruption", corruptions.CORRUPTIONS, ids=lambda corruption: corruption.apply.__name__
)
def test_every_corruption_lowers_the_utility(corruption):
  rng = random.Random(2)
  assert corruption.families
  for family in corruption.families:
    for task in sample_of_tasks(family, 25, seed=3):
      for golden in task.wordings(rng):
        response = corruption.apply(task, golden, rng)
        assert response.startswith(" ")
        assert 0.0 <= utility(task.query, response) < 0.9


@pytest.mark.parametrize("corruption", [corruptions.VAGUE, corruptions.UNNEEDED_REFUSAL])
def test_evasions_are_worth_a_tenth_in_every_wording(corruption):
  rng = random.Random(4)
  for family in corruption.families:
    for task in sample_of_tasks(family, 50):
      assert utility(task.query, corruption.apply(task, task.golden(rng), rng)) <= 0.1


def test_lists_are_changed_in_every_wording():
  task = world.parse(LISTING)
  for golden in task.wordings(random.Random(0)):
    items = [word for word in content_of(golden) if word in world.ITEMS]
    for change, length in ((corruptions.missing_item, 2), (corruptions.duplicate_item, 3)):
      text = change(task, golden, random.Random(0))
      listed = [word for word in content_of(text) if word in world.ITEMS]
      assert len(listed) == length and len(set(listed)) == 2 and set(listed) < set(items)
      assert text.replace(world.list_text(listed), world.list_text(items)) == golden


def test_there_are_thousands_of_distinct_queries_on_every_side():
  texts = []
  for side, families in world.queries_by_side().items():
    texts += itertools.chain.from_iterable(families.values())
    assert all(len(queries) > 400 for queries in families.values()), side
  assert len(texts) == len(set(texts)) > 20_000
  assert len({world.query_id_of(text) for text in texts}) == len(texts)


def test_side_and_id_of_a_query_do_not_change_between_runs():
  assert world.side_of(OWNER) == "test"
  assert world.query_id_of(OWNER) == "toy-test-778734cc7bfb"


# The data.


def test_sizes_are_those_asked_for(game):
  assert len(game.demonstrations) == 1000
  for split in (game.reward, game.policy):
    assert [len(split.preferences), len(split.golden), len(split.queries)] == [500, 500, 700]
  assert [len(game.test.preferences), len(game.test.golden), len(game.test.queries)] == [400] * 3
  assert game.utility is utility


def test_no_query_is_on_two_sides(game):
  sides = [{record.query for record in game.demonstrations}]
  sides += [queries_of(split) for split in (game.reward, game.policy, game.test)]
  for first, second in itertools.combinations(sides, 2):
    assert first.isdisjoint(second)


def test_queries_of_a_list_are_distinct_and_golden_ones_are_among_the_queries(game):
  for split in (game.reward, game.policy, game.test):
    for records in (split.preferences, split.golden, split.queries):
      assert len({record.query_id for record in records}) == len(records)
    assert {record.query for record in split.golden} <= {record.query for record in split.queries}


def test_a_query_has_one_id(game):
  ids = collections.defaultdict(set)
  for record in records_of(game):
    ids[record.query].add(record.query_id)
  assert all(len(of_query) == 1 for of_query in ids.values())
  assert len(set.union(*ids.values())) == len(ids)


def test_families_come_in_equal_parts(game):
  counts = collections.Counter(world.parse(record.query).family for record in game.test.queries)
  assert len(counts) == len(world.FAMILIES)
  assert max(counts.values()) - min(counts.values()) <= 1


def test_the_seed_decides_everything():
  sizes = (200, 100, 100, 100, 100)
  first = dialogues.generate(0, *sizes)
  other = dialogues.generate(1, *sizes)
  assert dialogues.generate(0, *sizes) == first
  assert other.demonstrations != first.demonstrations
  for name in ("reward", "policy", "test"):
    for field in dataclasses.fields(first.reward):
      assert getattr(getattr(other, name), field.name) != getattr(getattr(first, name), field.name)


def test_asking_for_more_keeps_the_first_records(game):
  small = dialogues.generate(0, 100, 50, 20, 30, 10)
  assert small.demonstrations == game.demonstrations[:100]
  assert small.reward.preferences == game.reward.preferences[:50]
  assert small.policy.golden == game.policy.golden[:20]
  assert small.test.queries == game.test.queries[:10]


def test_golden_records_are_perfect(game):
  for split in (game.reward, game.policy, game.test):
    assert all(utility(record.query, record.response) == 1.0 for record in split.golden)


def test_demonstrations_are_imperfect_as_documented(game):
  utilities = [utility(record.query, record.response) for record in game.demonstrations]
  perfect = sum(value == 1.0 for value in utilities) / len(utilities)
  assert 0.51 < sum(utilities) / len(utilities) < 0.59
  assert abs(perfect - dialogues.DEMONSTRATIONS.golden) < 0.03


def test_preferences_compare_two_different_mostly_imperfect_responses(game):
  perfect = 0
  for record in game.reward.preferences:
    assert record.scores == (1.0, 0.0)
    assert len(set(record.responses)) == 2
    perfect += sum(utility(record.query, response) == 1.0 for response in record.responses)
  assert 0.1 < perfect / (2 * len(game.reward.preferences)) < 0.2


def share_of_spoilt(responses):
  """The share of responses that are cut off or repeat themselves."""
  spoilt = []
  for response in responses:
    sentences = re.findall(r"[^.!]+", response)
    spoilt.append(response[-1] not in ".!" or len(set(sentences)) < len(sentences))
  return sum(spoilt) / len(spoilt)


@pytest.mark.parametrize("covers_failures", [False, True])
def test_preferences_show_what_spoils_most_demonstrations_where_asked(game, covers_failures):
  demonstrations = share_of_spoilt(record.response for record in game.demonstrations)
  assert demonstrations > 0.2
  shown = dialogues.generate(0, 0, 100, 0, 0, 100, covers_failures=covers_failures)
  for split in (shown.reward, shown.policy, shown.test):
    preferences = share_of_spoilt(text for one in split.preferences for text in one.responses)
    if covers_failures:
      assert preferences > demonstrations
    else:
      assert preferences == 0


def test_switches_change_the_preferences_alone():
  sizes = (100, 50, 50, 50, 50)
  usual = dialogues.generate(0, *sizes)
  other = dialogues.generate(0, *sizes, covers_failures=True, label_sharpness=2.0)
  assert other == dialogues.generate(0, *sizes, covers_failures=True, label_sharpness=2.0)
  assert usual == dialogues.generate(0, *sizes, covers_failures=False, label_sharpness=8.0)
  assert other.demonstrations == usual.demonstrations
  for name in ("reward", "policy", "test"):
    ours, theirs = getattr(other, name), getattr(usual, name)
    assert ours.preferences != theirs.preferences
    assert (ours.golden, ours.queries) == (theirs.golden, theirs.queries)


@pytest.mark.parametrize("sharpness", [0.0, 8.0])
def test_labels_are_as_noisy_as_the_formula_says(sharpness):
  # Of two responses with utilities u > v the first is preferred with sigmoid(sharpness * (u - v)).
  game = dialogues.generate(0, 0, 200, 0, 0, 0, label_sharpness=sharpness)
  bins = collections.defaultdict(list)
  for record in (*game.reward.preferences, *game.policy.preferences):
    chosen, rejected = (utility(record.query, response) for response in record.responses)
    if chosen != rejected:
      utilities = max(chosen, rejected), min(chosen, rejected)
      expected = dialogues.label_probability(*utilities, sharpness)
      bins[int(abs(chosen - rejected) * 5)].append((chosen > rejected, expected))
  assert len(bins) >= 4
  for labels in bins.values():
    count = len(labels)
    agreement = sum(agrees for agrees, _ in labels) / count
    expected = sum(probability for _, probability in labels) / count
    error = sum(p * (1 - p) for _, p in labels) ** 0.5 / count
    assert abs(agreement - expected) < 4 * error + 1e-9
    assert (expected == 0.5) == (sharpness == 0.0)


def test_label_probability_is_a_sigmoid_of_the_difference():
  assert dialogues.label_probability(0.4, 0.4, 8.0) == 0.5
  assert dialogues.label_probability(0.75, 0.5, 8.0) == pytest.approx(0.8807970779778823)
  assert dialogues.label_probability(0.0, 1.0, 8.0) == pytest.approx(0.00033535013046647827)
  assert dialogues.label_probability(0.0, 1.0, 0.0) == 0.5
  assert dialogues.label_probability(0.0, 1.0, 1e6) == 0.0


def test_the_vocabulary_is_small(game):
  words = collections.Counter()
  for record in records_of(game):
    words.update(re.findall(r"\w+", record.query))
    for response in getattr(record, "responses", [getattr(record, "response", "")]):
      words.update(re.findall(r"\w+", response))
      assert len(response.split()) <= 20
  assert 100 < len(words) <= 260
  assert all(word.isalpha() for word in words)


@pytest.mark.parametrize("field", SIZES)
@pytest.mark.parametrize("value", [-1, 10**6])
def test_a_number_that_cannot_be_met_is_named(field, value):
  with pytest.raises(ValueError, match=rf"{field} is {value}, but must be between 0 and \d+"):
    dialogues.generate(0, **{**dict.fromkeys(SIZES, 1), field: value})


def test_a_side_can_be_used_up_but_not_more():
  counts = {
    side: sum(map(len, families.values())) for side, families in world.queries_by_side().items()
  }
  most = min(counts["reward"], counts["policy"])
  game = dialogues.generate(0, 0, 0, 0, most, 0)
  assert len(game.reward.queries) == len(game.policy.queries) == most
  with pytest.raises(ValueError, match=rf"num_queries is {most + 1}.* 0 and {most},"):
    dialogues.generate(0, 0, 0, 0, most + 1, 0)
