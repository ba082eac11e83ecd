import hashlib

import numpy as np
import pytest

from apo_jax.data.dialogue import Message, parse_query, parse_response
from apo_jax.data.reading import to_records
from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.rows.rows import make_rows, row_length
from tests import tiny

# One question, a dialogue, and one with a system turn; texts with inner line breaks.
PREFERENCES = tuple(
  Preference(f"id {number}", query, responses, (1.0, 0.0))
  for number, (query, responses) in enumerate(
    [
      ("\n\nHuman: What is 1?\n\nAssistant:", (" One.\n\nSo it is.", " Two.")),
      ("\n\nHuman: Hi\n\nAssistant: Yo.\n\nHuman: Só?\n\nAssistant:", (" Bye.", " Be\u2028e.")),
      ("\n\nSystem: Be kind.\n\nHuman: A\nb\n\nAssistant:", (" Human: no.", " Human: yes.")),
    ]
  )
)


def messages(text):
  return [vars(message) for message in parse_query(text)]


def answer(text):
  return [{"role": "assistant", "content": text}]


def completions(preference, rate):
  return [
    {"model": "m", "response": response, **rate(score)}
    for response, score in zip(preference.responses, preference.scores, strict=True)
  ]


def ratings(score):
  aspects = {
    "honesty": {"Rating": str(score * 2)},
    "truth": {"Rating": "0"},
    "help": {"Rating": "N/A"},
  }
  return {"annotations": aspects, "overall_score": 1.0 - score}


# Each writes one preference as a row of its format.
WRITERS = {
  ("K-wise responses and scores", "own"): lambda p: {
    "query": p.query,
    "responses": list(p.responses),
    "scores": list(p.scores),
  },
  ("K-wise responses and scores", "messages"): lambda p: {
    "prompt": messages(p.query),
    "responses": list(p.responses),
    "scores": [1, 0],
  },
  ("HH-RLHF", ""): lambda p: {
    "chosen": p.query + p.responses[0],
    "rejected": p.query + p.responses[1],
  },
  ("HH-RLHF", "spaces"): lambda p: {
    "chosen": f"{p.query.lstrip()}{p.responses[0]} ",
    "rejected": f"{p.query.lstrip()} {p.responses[1]}\n\n",
  },
  ("HH-RLHF", "prompt"): lambda p: {
    "prompt": p.query,
    "chosen": p.query + p.responses[0],
    "rejected": p.query + p.responses[1],
  },
  ("TRL preference (explicit prompt)", ""): lambda p: {
    "prompt": p.query,
    "chosen": p.responses[0].strip(),
    "rejected": p.responses[1],
  },
  ("TRL conversational preference (explicit prompt)", ""): lambda p: {
    "prompt": messages(p.query),
    "chosen": answer(p.responses[0]),
    "rejected": answer(p.responses[1].strip()),
  },
  ("TRL conversational preference (implicit prompt)", ""): lambda p: {
    "chosen": messages(p.query) + answer(p.responses[0]),
    "rejected": messages(p.query) + answer(p.responses[1]),
  },
  ("TRL conversational preference (implicit prompt)", "binarized UltraFeedback"): lambda p: {
    "prompt": messages(p.query)[-1]["content"],
    "chosen": messages(p.query) + answer(p.responses[0]),
    "rejected": messages(p.query) + answer(p.responses[1]),
    "messages": messages(p.query) + answer(p.responses[0]),
    "score_chosen": 1.0,
    "score_rejected": 0.0,
  },
  ("APO text and scores", ""): lambda p: {
    "text": [f"{p.query}<sep>{response}" for response in p.responses],
    "scores": [1, 0],
  },
  ("UltraFeedback", "ratings"): lambda p: {
    "instruction": p.query,
    "completions": completions(p, ratings),
  },
  ("UltraFeedback", "fine-grained"): lambda p: {
    "prompt": p.query,
    "completions": completions(p, lambda score: {"fine-grained_score": score}),
  },
  ("UltraFeedback", "overall"): lambda p: {
    "instruction": messages(p.query),
    "completions": completions(p, lambda score: {"overall_score": score, "annotations": {}}),
  },
}
IDS = ("query_id", "prompt_id", "id")


def read(rows, kind="preferences", on_bad_row="error", queries=None):
  return to_records(rows, "the rows are 'here'", kind, on_bad_row, queries or {})


def problem(row, kind="preferences", good=()):
  """What is wrong with a row, behind good ones that show its format."""
  reading = read([*good, row], kind, "skip")
  ((reason, (example,)),) = reading.examples.items()
  return f"{reason}: {example.removeprefix(f'row {len(good) + 1}: ')}"


def token_batch(preferences):
  """The arrays that a reward model reads of the preferences, and their scores."""
  codec = tiny.codec()
  queries = codec.encode_queries([preference.query for preference in preferences])
  items = [
    (query, codec.encode_responses(preference.responses))
    for query, preference in zip(queries, preferences, strict=True)
  ]
  length = max(row_length(*item) for item in items)
  rows = make_rows(items, 2, length, codec.eos)
  return [*rows, np.array([preference.scores for preference in preferences])]


@pytest.mark.parametrize(("form", "variant"), WRITERS)
def test_the_same_preferences_in_every_format_are_the_same_records(form, variant):
  rows = [
    WRITERS[form, variant](preference) | {name: preference.query_id}
    for preference, name in zip(PREFERENCES, IDS, strict=True)
  ]
  reading = read(rows)
  assert reading.format == form
  assert reading.records == PREFERENCES
  assert (reading.rows, reading.dropped, reading.examples) == (3, {}, {})
  assert reading.numbers == (1, 2, 3)
  for found, expected in zip(token_batch(reading.records), token_batch(PREFERENCES), strict=True):
    np.testing.assert_array_equal(found, expected, strict=True)
  # What holds preferences also holds their best responses and queries.
  assert read(rows, "demonstrations").records == tuple(
    Demonstration(p.query_id, p.query, p.responses[0]) for p in PREFERENCES
  )
  assert read(rows, "queries").records == tuple(Query(p.query_id, p.query) for p in PREFERENCES)


def test_texts_share_their_start_up_to_the_end_of_a_line_or_a_marker():
  rows = [
    {"chosen": "What is 1?\nOne.", "rejected": "What is 1?\nTwo."},
    {"chosen": "Capital of France?\nParis.", "rejected": "Capital of France?\nPrague."},
    {"chosen": "So?\n\nParis", "rejected": "So?\n\nPar"},
    {"chosen": "Q: Why?\nA: It is so.", "rejected": "Q: Why?\nA: It rains."},
    {"chosen": "User: Why?\n\nAssistant: So.", "rejected": "User: Why?\n\nAssistant: No."},
  ]
  reading = read(rows)
  assert reading.format == "TRL preference (implicit prompt)"
  assert [(record.query, record.responses) for record in reading.records] == [
    ("\n\nHuman: What is 1?\n\nAssistant:", (" One.", " Two.")),
    ("\n\nHuman: Capital of France?\n\nAssistant:", (" Paris.", " Prague.")),
    ("\n\nHuman: So?\n\nAssistant:", (" Paris", " Par")),
    ("\n\nHuman: Why?\n\nAssistant:", (" It is so.", " It rains.")),
    ("\n\nHuman: Why?\n\nAssistant:", (" So.", " No.")),
  ]
  # Words that two answers begin with are no query.
  for sides in (
    ("Blue.", "Red."),
    ("What is 1? One.", "What is 1? Two."),
    ("It is\nA", "It was\nB"),
  ):
    unshared = problem(dict(zip(("chosen", "rejected"), sides, strict=True)), good=rows)
    assert unshared.startswith("sides of different queries: ")
  # Nor are they where a column may be one.
  wrong = problem({**rows[0], "ask": "What is 1?"}, good=rows)
  assert wrong.startswith("unread column: ") and "if ask is, call it 'prompt'" in wrong
  assert read([{**rows[0], "source": "a book", "model_id": "m"}]).unread == ("source", "model_id")


@pytest.mark.parametrize(
  ("form", "row"),
  [
    ("query and response", {"query": "Q", "response": "A"}),
    ("query and response", {"prompt": "Q", "completion": " A"}),
    (
      "query and response",
      {"prompt": [{"role": "user", "content": "Q"}], "completion": answer("A")},
    ),
    ("TRL unpaired preference", {"prompt": "Q", "completion": " A", "label": True}),
    (
      "TRL unpaired preference",
      {"prompt": [{"role": "user", "content": "Q"}], "completion": answer("A"), "label": 1},
    ),
    ("AlpacaEval outputs", {"instruction": "Q", "output": "A", "generator": "g", "dataset": "d"}),
    ("APO golden", {"query": "\n\nHuman: Q\n\nAssistant:", "golden": "A"}),
    ("TRL conversation", {"messages": [{"role": "user", "content": "Q"}, *answer("A")]}),
    ("K-wise responses and scores", {"query": "Q", "responses": [" B", " A"], "scores": [0, 1]}),
    ("K-wise responses and scores", {"query": "Q", "responses": [" A"], "scores": [1]}),
  ],
)
def test_demonstrations_are_read_from_every_form_that_holds_them(form, row):
  reading = read([{**row, "query_id": "q"}], "demonstrations")
  assert reading.format == form
  assert reading.records == (Demonstration("q", "\n\nHuman: Q\n\nAssistant:", " A"),)


@pytest.mark.parametrize(
  ("form", "row"),
  [
    ("query", {"query": "\n\nHuman: Q\n\nAssistant:"}),
    ("query", {"prompt": "Human: Q\n\nAssistant: "}),
    ("query", {"instruction": "Q\n"}),
    ("query", {"prompt": [{"role": "user", "content": "Q"}]}),
    ("APO samples", {"query": "Q", "sample_0": " A", "sample_1": ""}),
    ("AlpacaEval outputs", {"instruction": "Q", "output": " "}),
    ("TRL unpaired preference", {"prompt": "Q", "completion": "A", "label": False}),
    ("APO text and scores", {"text": ["Q<sep>A", "Q<sep>B"], "scores": [1, 0], "type": "apo"}),
    ("query", {"query": "Q", "responses": [], "scores": []}),
  ],
)
def test_queries_are_read_from_every_form(form, row):
  reading = read([row], "queries")
  assert reading.format == form
  query = "\n\nHuman: Q\n\nAssistant:"
  assert reading.records == (Query(hashlib.sha256(query.encode()).hexdigest()[:16], query),)


def test_an_instruction_goes_with_its_input():
  rows = [
    {"instruction": "Sum up.", "input": "It rains.", "output": "Rain."},
    {"instruction": "Say A.", "input": "", "output": "A"},
  ]
  first, second = read(rows, "demonstrations").records
  assert first.query == "\n\nHuman: Sum up.\n\nIt rains.\n\nAssistant:"
  assert second.query == "\n\nHuman: Say A.\n\nAssistant:"


def test_golden_responses_without_query_find_it_by_id():
  rows = [{"query_id": "a", "golden": "A"}, {"query_id": 7, "golden": "B"}]
  queries = {"a": "\n\nHuman: Qa\n\nAssistant:", "7": "\n\nHuman: Q7\n\nAssistant:"}
  reading = read(rows, "demonstrations", queries=queries)
  assert reading.records == (
    Demonstration("a", queries["a"], " A"),
    Demonstration("7", queries["7"], " B"),
  )
  reading = read(rows, "demonstrations", "skip", {"a": queries["a"]})
  assert len(reading.records) == 1
  assert reading.examples == {
    "missing field": ("row 2: it has no query, and none of config.data.queries has its id '7'",)
  }


def test_a_row_of_an_id_by_number_or_none_has_one():
  rows = [
    {"query": "Q", "query_id": 7},
    {"query": "Q", "query_id": None, "id": "x"},
    {"query": "Q"},
  ]
  ids = [record.query_id for record in read(rows, "queries").records]
  assert ids[:2] == ["7", "x"] and len(ids[2]) == 16


def test_scores_of_pairs_are_taken_where_they_are_given():
  pair = {"prompt": "Q", "chosen": "A", "rejected": "B"}
  rows = [pair, {**pair, "score_chosen": 8.5, "score_rejected": 7}]
  assert [record.scores for record in read(rows).records] == [(1.0, 0.0), (8.5, 7.0)]
  wrong = problem({**pair, "score_chosen": 2.5, "score_rejected": 7}, good=rows)
  assert wrong == "wrong scores: score_chosen is 2.5, below score_rejected, which is 7"
  equal = problem({**pair, "score_chosen": -1, "score_rejected": -1}, good=rows)
  assert equal.startswith("all sides equal: ")


def test_scores_below_0_keep_their_order():
  pair = {"prompt": "Q", "chosen": "A", "rejected": "B"}
  rows = [
    {**pair, "score_chosen": -1.5, "score_rejected": -4},
    {**pair, "score_chosen": 3, "score_rejected": 1},
  ]
  assert [record.scores for record in read(rows).records] == [(2.5, 0.0), (3.0, 1.0)]
  rows = [{"query": "Q", "responses": ["a", "b", "c"], "scores": [1, -0.5, 0]}]
  assert read(rows).records[0].scores == (1.5, 0.0, 0.5)
  for scores in ([1e308, -1e308, 0], [-1e300, 1, 2]):
    assert "too far apart" in problem({**rows[0], "scores": scores}, good=rows)


def test_a_golden_response_against_samples_is_no_human_preference():
  row = {"text": ["Q<sep>A", "Q<sep>B"], "scores": [1, 0]}
  for kind in ("preferences", "demonstrations"):
    wrong = problem({**row, "type": "apo"}, kind, [row, {**row, "type": None}])
    assert wrong == "no human preference: it has the type 'apo': a golden response and samples"


def test_a_response_labelled_false_is_no_demonstration():
  row = {"prompt": "Q", "completion": "A", "label": True}
  wrong = problem({**row, "label": False}, "demonstrations", [row])
  assert wrong == "unwanted response: its label is false"
  for label, reason in (("bad", "wrong field"), (None, "missing field")):
    wrong = problem({**row, "label": label}, "demonstrations", [row])
    assert wrong.startswith(f"{reason}: ") and "label" in wrong


def test_later_turns_may_differ_too():
  start, rest = "\n\nHuman: Q\n\nAssistant:", "\n\nHuman: M\n\nAssistant: B"
  expected = (start, (f" A{rest}", " C"))
  text = {"chosen": f"{start} A{rest}", "rejected": f"{start} C"}
  turns = {name: messages(f"{value}\n\nAssistant:") for name, value in text.items()}
  for row in (text, turns):
    (record,) = read([row]).records
    assert (record.query, record.responses) == expected
  # As a preference people judged it; as an example it would teach to write the human's turns.
  shown = problem(text, "demonstrations", [{"chosen": f"{start} A", "rejected": f"{start} C"}])
  assert shown == (
    "turn marker inside a message: it has the turn marker '\\n\\nHuman:' in its response"
  )


def test_equal_dialogues_differ_nowhere():
  text = "\n\nHuman: Q\n\nAssistant: A"
  good = {"chosen": text, "rejected": f"{text}b"}
  assert problem({"chosen": text, "rejected": text}, good=[good]).startswith("all sides equal: ")
  turns = messages(f"{text}\n\nAssistant:")
  good = {"chosen": turns, "rejected": [*turns[:1], *answer("B")]}
  assert problem({"chosen": turns, "rejected": turns}, good=[good]).startswith("all sides equal: ")


HH = {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"}
K_WISE = {"query": "Q", "responses": ["a", "b"], "scores": [1, 0]}
PAIR = {"prompt": "Q", "chosen": "A", "rejected": "B"}
TURNS = {
  "prompt": [{"role": "user", "content": "Q"}],
  "chosen": answer("A"),
  "rejected": answer("B"),
}
RATED = {"instruction": "Q", "completions": completions(PREFERENCES[0], ratings)}
TEXT = {"text": ["Q<sep>A", "Q<sep>B"], "scores": [1, 0]}
IMPLICIT = {name: messages(f"{HH[name]}\n\nAssistant:") for name in HH}


@pytest.mark.parametrize(
  ("good", "change", "reason"),
  [
    (HH, {"chosen": "\n\nHuman: Q\n\nAssistant: "}, "empty response"),
    (HH, {"rejected": "\n\nHuman: Q"}, "no assistant turn"),
    (HH, {"rejected": "\n\nHuman: R\n\nAssistant: B"}, "sides of different queries"),
    (HH, {name: f"\n\nHuman:{HH[name][10:]}" for name in HH}, "empty query"),
    (HH, {name: f"So.{HH[name]}" for name in HH}, "turn marker inside a message"),
    (HH, {name: f"\n\nHuman: A\n\nSystem: B{HH[name]}" for name in HH}, "wrong turns"),
    (HH, {"rejected": None}, "missing field"),
    (HH, {"rejected": "\n\nHuman: Q\n\nAssistant: \udcff"}, "not UTF-8"),
    (K_WISE, {"responses": ["a", " \n"]}, "empty response"),
    (K_WISE, {"responses": ["a", " a"]}, "all sides equal"),
    (K_WISE, {"scores": [1, 1.0]}, "all sides equal"),
    (K_WISE, {"scores": [1]}, "wrong scores"),
    (K_WISE, {"scores": [1, "-1x"]}, "wrong scores"),
    (K_WISE, {"scores": [1, float("nan")]}, "wrong scores"),
    (K_WISE, {"query": "\n\nAssistant:"}, "empty query"),
    (K_WISE, {"responses": ["a"], "scores": [1]}, "nothing to compare"),
    (PAIR, {"chosen": ""}, "empty response"),
    (PAIR, {"prompt": "<|im_start|>user\nQ"}, "written by a template"),
    (PAIR, {"chosen": "[INST] Q [/INST] A"}, "written by a template"),
    (PAIR, {"score_chosen": "9", "score_rejected": "A"}, "wrong scores"),
    (PAIR, {"chosen": 1}, "wrong field"),
    (TURNS, {"chosen": []}, "no assistant turn"),
    (TURNS, {"prompt": [{"role": "narrator", "content": "Q"}]}, "wrong turns"),
    (TURNS, {"prompt": [{"role": "system", "content": "Q"}]}, "empty query"),
    (TURNS, {"prompt": [{"role": "user"}]}, "missing field"),
    (TURNS, {"rejected": [{"role": "assistant", "content": ["B"]}]}, "wrong field"),
    (IMPLICIT, {"chosen": IMPLICIT["chosen"][:1]}, "no assistant turn"),
    (IMPLICIT, {"chosen": answer("A")}, "sides of different queries"),
    (RATED, {"completions": [{"response": "A"}, {"response": "B"}]}, "wrong scores"),
    (RATED, {"completions": [{"response": "A"}, "B"]}, "wrong field"),
    (TEXT, {"text": ["Q<sep>A", "B"]}, "missing field"),
    (TEXT, {"text": ["Q<sep>A", "R<sep>B"]}, "sides of different queries"),
    (TEXT, {"text": "Q<sep>A"}, "wrong field"),
    (TEXT, {"scores": [1, 0, 0]}, "wrong scores"),
  ],
)
def test_a_bad_row_has_one_reason(good, change, reason):
  assert problem({**good, **change}, good=[good, good]).startswith(f"{reason}: ")


@pytest.mark.parametrize("text", ["Q\n\nHuman: R", "System: R", "A\n\nSystem: B\n\nAssistant: C"])
def test_what_would_open_a_turn_is_text_in_a_message(text):
  """In a prompt that is no dialogue in HH form, in messages, and in answers to either."""
  rows = [
    {"prompt": text, "chosen": text, "rejected": "B"},
    {
      "prompt": [{"role": "user", "content": text}],
      "chosen": answer(text),
      "rejected": answer("B"),
    },
  ]
  for row in rows:
    (one,) = read([row]).records
    assert parse_query(one.query) == (Message("user", text),)
    assert parse_response(one.responses[0]) == (Message("assistant", text),)
  # Read again from our own records, it is the same.
  assert read([vars(one)]).records == (one,)


WRITTEN = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
  "row",
  [
    {"prompt": WRITTEN, "chosen": "A<|im_end|>", "rejected": "B<|im_end|>\n"},
    {"prompt": WRITTEN, "chosen": "A", "rejected": "B"},
    {"prompt": "Q", "chosen": "A<|im_end|>", "rejected": "B</s>"},
    {"prompt": "[INST] Q [/INST]", "chosen": " A </s>", "rejected": "<|assistant|>\nB</s>"},
    {
      "prompt": [{"role": "user", "content": WRITTEN}],
      "chosen": answer("A"),
      "rejected": answer("B"),
    },
    {"chosen": f"{WRITTEN}A<|im_end|>\n", "rejected": f"{WRITTEN}B<|im_end|>\n"},
  ],
)
def test_a_dialogue_that_a_template_has_written_is_taken_apart(row):
  (one,) = read([row]).records
  assert (one.query, one.responses) == ("\n\nHuman: Q\n\nAssistant:", (" A", " B"))
