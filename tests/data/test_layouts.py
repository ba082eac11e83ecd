"""The layouts of docs/data.md, a row each: the same preference, or the reason why there is none."""

import re

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data.dialogue import find_marker, unquote_markers
from apo_jax.data.reading import to_records
from apo_jax.data.records import Demonstration, Preference
from tests.tiny import ROOT

ASK, GOOD, BAD = "Name sea 7.", "The Baltic.", "Como."
QUERY = f"\n\nHuman: {ASK}\n\nAssistant:"
WITH_SYSTEM = f"\n\nSystem: Be terse.{QUERY}"


def user(text=ASK):
  return {"role": "user", "content": text}


def assistant(text):
  return {"role": "assistant", "content": text}


def human(text=ASK):
  return {"from": "human", "value": text}


def gpt(text):
  return {"from": "gpt", "value": text}


def node(key, parent, text, role, rank=None, **more):
  return {
    "message_id": key, "parent_id": parent, "text": text, "role": role, "rank": rank,
    "lang": "en", "labels": {"name": ["spam"], "value": [0.0]}, "deleted": False, **more,
  }  # fmt: skip


TREE = [
  node("a", None, ASK, "prompter"),
  node("b", "a", BAD, "assistant", 1),
  node("c", "a", GOOD, "assistant", 0),
]
SIDES = {"chosen": GOOD, "rejected": BAD}
SAFE = {
  "prompt": ASK, "response_0": GOOD, "response_1": BAD, "is_response_0_safe": True,
  "is_response_1_safe": False, "better_response_id": 0, "safer_response_id": 0,
}  # fmt: skip
SHP = {
  "post_id": "p7", "history": ASK, "human_ref_A": GOOD, "human_ref_B": BAD, "labels": 1,
  "score_A": 10, "score_B": 2, "score_ratio": 5.0,
}  # fmt: skip
ARENA = {
  "id": 7, "model_a": "m", "model_b": "n", "prompt": f'["{ASK}"]', "response_a": f'["{GOOD}"]',
  "response_b": f'["{BAD}"]', "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0,
}  # fmt: skip
HELPSTEER = [
  {"prompt": ASK, "response": GOOD, "helpfulness": 4, "correctness": 1, "verbosity": 2},
  {"prompt": ASK, "response": BAD, "helpfulness": 1, "correctness": 4, "verbosity": 2},
]
INTEL = {"system": "Be terse.", "question": ASK, **SIDES}
DISTILABEL = {
  "system": "Be terse.", "input": ASK, **SIDES, "generations": [GOOD, BAD], "rating": [9.0, 5.0],
  "order": ["chosen", "rejected"], "status": "unchanged", "chosen_score": 9.0,
}  # fmt: skip

# By the name in the table of docs/data.md.
PREFERENCES = {
  "our own": [{"query_id": "q", "query": QUERY, "responses": [GOOD, BAD], "scores": [1, 0]}],
  "HH-RLHF": [{"chosen": f"{QUERY} {GOOD}", "rejected": f"{QUERY} {BAD}"}],
  "TRL, explicit prompt": [{"prompt": ASK, **SIDES}],
  "TRL, implicit prompt": [{"chosen": f"{ASK}\n{GOOD}", "rejected": f"{ASK}\n{BAD}"}],
  "TRL, conversations": [
    {"prompt": [user()], "chosen": [assistant(GOOD)], "rejected": [assistant(BAD)]},
    {"chosen": [user(), assistant(GOOD)], "rejected": [user(), assistant(BAD)]},
  ],
  "UltraFeedback, binarised": [
    {
      "prompt": ASK, "prompt_id": "x", "chosen": [user(), assistant(GOOD)],
      "rejected": [user(), assistant(BAD)], "messages": [user(), assistant(GOOD)],
      "score_chosen": 8.0, "score_rejected": 5.0,
    },
    {
      "prompt": ASK, "chosen": [user(), assistant(GOOD)], "chosen-rating": 5.0,
      "rejected": [user(), assistant(BAD)], "rejected-rating": 3.0, "chosen-model": "m",
    },
    {"instruction": ASK, "chosen_response": GOOD, "rejected_response": BAD,
     "chosen_avg_rating": 4.5, "rejected_avg_rating": 2},
  ],
  "UltraFeedback": [
    {"instruction": ASK, "completions": [
      {"response": GOOD, "fine-grained_score": 4.0}, {"response": BAD, "fine-grained_score": 2.0},
    ]},
  ],
  "Intel/orca_dpo_pairs": [INTEL],
  "argilla/distilabel-intel-orca-dpo-pairs": [DISTILABEL],
  "jondurbin/truthy-dpo": [
    {"id": "a", "source": "x", "system": "Be terse.", "prompt": ASK, **SIDES},
  ],
  "ShareGPT with two sides": [
    {"conversations": [human()], "chosen": gpt(GOOD), "rejected": gpt(BAD)},
    {"messages": [user()], "chosen": assistant(GOOD), "rejected": assistant(BAD)},
  ],
  "HelpSteer 1 and 2": HELPSTEER,
  "HelpSteer2 preference": [
    {"split": "train", "prompt": ASK, "response_1": GOOD, "response_2": BAD,
     "preference_strength": -2, "preference_statement": "x"},
    {"prompt": ASK, "response_1": BAD, "response_2": GOOD, "preference_strength": 1},
  ],
  "HelpSteer3 preference": [
    {"domain": "general", "context": [user()], "response1": GOOD, "response2": BAD,
     "overall_preference": -2, "individual_preference": [{"score": -2}]},
  ],
  "PKU-SafeRLHF": [SAFE],
  "Nectar": [
    {"prompt": f"{QUERY} ", "turns": 1,
     "answers": [{"answer": GOOD, "rank": 1.0}, {"answer": BAD, "rank": 2.0}]},
  ],
  "SHP": [SHP, {**SHP, "human_ref_A": BAD, "human_ref_B": GOOD, "labels": 0, "score_A": 1}],
  "RewardBench 2": [
    {"id": "7", "prompt": ASK, "chosen": [GOOD], "rejected": [BAD], "num_correct": 1},
  ],
  "Chatbot Arena, 55,000": [ARENA, {**ARENA, "prompt": f"['{ASK}']", "response_a": f"['{GOOD}']"}],
  "Chatbot Arena, conversations": [
    {"question_id": "7", "model_a": "m", "model_b": "n", "winner": "model_a", "turn": 1,
     "conversation_a": [user(), assistant(GOOD)], "conversation_b": [user(), assistant(BAD)]},
  ],
  "WebGPT, and scores beside two answers": [
    {"question": ASK, "answer_0": BAD, "answer_1": GOOD, "score_0": -0.5, "score_1": "0.5"},
  ],
  "AlpacaEval, annotated": [
    {"instruction": ASK, "output_1": BAD, "output_2": GOOD, "preference": 1.9},
  ],
  "RLHFlow, and other lists": [
    {"prompt": ASK, "responses": [GOOD, BAD], "rewards": [2.5, -1.0]},
    {"prompt": ASK, "responses": [GOOD, BAD], "ranks": [1, 2]},
    {"prompt": ASK, "responses": f"['{GOOD}', '{BAD}']", "scores": "[1, 0]"},
  ],
  "responses beside two sides": [{"prompt": ASK, "responses": [BAD, GOOD], **SIDES}],
  "OpenAssistant messages": TREE,
  "OpenAssistant trees": [
    {"message_tree_id": "a", "tree_state": "ready_for_export",
     "prompt": {**TREE[0], "replies": [{**TREE[1], "replies": []}, TREE[2]]}},
  ],
  "KTO": [
    {"prompt": ASK, "completion": GOOD, "label": True},
    {"prompt": ASK, "completion": BAD, "label": False},
  ],
  "LLaMA-Factory": [
    {"instruction": ASK, "input": "", **SIDES, "system": "", "history": []},
  ],
}  # fmt: skip

REFUSED = {
  "images and tools": (
    [
      {"prompt": ASK, **SIDES, "images": ["a.png"]},
      {"prompt": [user([{"type": "image_url", "image_url": {"url": "a"}}])], **SIDES},
      {"prompt": [user(), {"role": "tool", "content": "7"}], **SIDES},
    ],
    r"unread column.*images|not text.*'image_url'|not text.*tool",
  ),
  "OpenAI summarize_from_feedback": (
    [{"info": {"post": ASK}, "summaries": [{"text": GOOD}, {"text": BAD}], "choice": 0}],
    r"summarize_from_feedback: write prompt \(info\.post\)",
  ),
  "HelpSteer3 edits": (
    [{"context": [user()], "original_response": BAD, "edited_response": GOOD, "feedback": "x"}],
    "write chosen and rejected",
  ),
  "the hub viewer's rows": (
    [{"row_idx": 0, "row": {"prompt": ASK, **SIDES}, "truncated_cells": []}],
    "write each row's `row`, one a line",
  ),
}


def read(rows, kind="preferences"):
  return to_records(rows, "the rows are 'here'", kind, "skip", {})


def reason(rows, kind="preferences"):
  with pytest.raises(ConfigError) as error:
    read(rows if isinstance(rows, list) else [rows], kind)
  return str(error.value)


@pytest.mark.parametrize("name", PREFERENCES)
def test_every_layout_holds_the_same_preference(name):
  rows = PREFERENCES[name]
  together = len(rows) > 1 and ({"label", "helpfulness", "message_id"} & rows[0].keys())
  for part in [rows] if together else [[row] for row in rows]:
    reading = read(part)
    ((found, dropped),) = [(reading.records, reading.dropped)]
    assert len(found) == 1 and not dropped
    order = sorted(zip(found[0].scores, found[0].responses, strict=True), reverse=True)
    assert [text for _, text in order] == [f" {GOOD}", f" {BAD}"] and order[0][0] > order[1][0]
    assert found[0].query == (WITH_SYSTEM if part[0].get("system") else QUERY)
    assert reading.joined == len(part) - 1


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_with_what_to_do(name):
  rows, words = REFUSED[name]
  for row in rows:
    assert re.search(words, reason(row))


def test_the_table_in_the_docs_is_of_these_layouts():
  text = (ROOT / "docs" / "data.md").read_text()
  named = re.findall(
    r"^\| ([^|]+?) \| ", text.partition("## Layouts")[2].partition("\n## ")[0], re.M
  )
  assert [name for name in named if name not in ("layout", "---")] == [*PREFERENCES, *REFUSED]


@pytest.mark.parametrize(
  ("row", "problem"),
  [
    ({**SAFE, "safer_response_id": 1}, "contradiction"),
    ({**SAFE, "is_response_0_safe": False, "is_response_1_safe": True}, "contradiction"),
    ({**SAFE, "better_response_id": 2}, "wrong field"),
    ({**SHP, "labels": 0}, "contradiction"),
    ({**SHP, "score_B": 10}, "contradiction"),
    ({**ARENA, "winner_model_a": 0, "winner_tie": 1}, "all sides equal"),
    ({**ARENA, "winner_tie": 1}, "contradiction"),
    ({**ARENA, "response_a": "[null]"}, "wrong field"),
    ({**ARENA, "prompt": '["a", "b"]'}, "wrong field"),
    ({**DISTILABEL, "status": "tie"}, "all sides equal"),
    ({**DISTILABEL, "rating": [9.0, 9.0]}, "all sides equal"),
    ({**DISTILABEL, "rating": [3.0, 9.0]}, "contradiction"),
    ({**INTEL, "score_chosen": "1", "score_rejected": "2"}, "wrong scores"),
    ({"prompt": ASK, "responses": [GOOD, BAD], "scores": [1, 0], "ranks": [2, 1]}, "contradiction"),
    ({"prompt": ASK, "response_1": GOOD, "response_2": BAD, "preference_strength": 0}, "all sides"),
    ({"prompt": ASK, "response_1": GOOD, "response_2": BAD, "preference": 1}, "wrong field"),
    ({"prompt": ASK, "response_1": GOOD, "response_2": BAD}, "missing field"),
    ({"prompt": ASK, "response_a": GOOD, "response_b": BAD, "winner": "neither"}, "all sides"),
    ({"system": "A", "prompt": [{"role": "system", "content": "B"}, user()], **SIDES},
     "contradiction"),
    ({"prompt": "Else?", "chosen": [user(), assistant("A")], "rejected": [user(), assistant("B")]},
     "sides of different queries"),
    ({"prompt": ASK, **SIDES, "label": 1}, "unread column"),
    ({"prompt": ASK, **SIDES, "chat_history": "Hi"}, "unread column"),
    ({"prompt": ASK, **SIDES, "context": "It rains."}, "unread column"),
    ({"prompt": ASK, **SIDES, "human_rating": 3}, "unread column"),
    ({"prompt": [user(), assistant("The sea is")], **SIDES}, "begun answer"),
    ({"prompt": f"{QUERY} The sea is", **SIDES}, "begun answer"),
    ({"prompt": '["a", "b"]', **SIDES}, "wrong turns"),
    ({"prompt": ASK, "chosen": "['a']", "rejected": "['b']"}, "list as text"),
    ({"chosen": "[{'role': 'user', 'content': 'x'}\n {'role': 'a'}]", "rejected": "z"}, "list as"),
    ({"prompt": [{"role": "narrator", "content": ASK}], **SIDES}, "wrong turns"),
  ],
)  # fmt: skip
def test_ties_contradictions_and_what_is_not_read_have_a_reason(row, problem):
  assert f"; {problem}" in reason(row)


@pytest.mark.parametrize(
  ("row", "query"),
  [
    ({"question": ASK}, QUERY),
    ({"system_prompt": "Be terse.", "instruction": ASK}, WITH_SYSTEM),
    ({"prompt": [{"role": "developer", "content": "Be terse."}, user()]}, WITH_SYSTEM),
    ({"system": "Be terse.", "chosen": [user(), assistant(GOOD)],
      "rejected": [user(), assistant(BAD)]}, WITH_SYSTEM),
    ({"system": "Be terse.", "chosen": f"{QUERY} a", "rejected": f"{QUERY} b"}, WITH_SYSTEM),
    ({"prompt": [user([{"type": "text", "text": ASK}])]}, QUERY),
    ({"Prompt": f"[{{'role': 'user', 'content': '{ASK}'}}]"}, QUERY),
    ({"history": [["Hi", "Yo"]], "prompt": ASK}, f"\n\nHuman: Hi\n\nAssistant: Yo{QUERY}"),
    ({"history": [user("Hi"), assistant("Yo")], "prompt": ASK},
     f"\n\nHuman: Hi\n\nAssistant: Yo{QUERY}"),
    ({"instruction": "Sum up.", "context": "Rain."}, "\n\nHuman: Sum up.\n\nRain.\n\nAssistant:"),
    ({"conversations": [{"from": "bot", "value": "Hi"}, human()]}, f"\n\nAssistant: Hi{QUERY}"),
  ],
)  # fmt: skip
def test_a_query_is_made_of_all_that_says_something_of_it(row, query):
  reading = read([SIDES | row])
  assert reading.records[0].query == query and not reading.unread


def test_rows_are_read_each_by_its_own_shape():
  quoting = "Human: Hi\n\nAssistant: "
  talk = {"prompt": "Write a talk.", "chosen": f"{quoting}A", "rejected": f"{quoting}B"}
  rows = [
    talk,  # answers that quote a dialogue are no dialogues
    {"prompt": ASK, "chosen": [], "rejected": [assistant(BAD)]},
    *[{"prompt": ASK, **SIDES}] * 3,
    *PREFERENCES["HH-RLHF"],
    {"text": "a book"},
    {"prompt": ASK},
    {"prompt": ASK, "chosen": f"{QUERY} {GOOD}", "rejected": f"{QUERY} {BAD}", "id": 12.0},
  ]
  reading = read(rows)
  assert reading.formats == {
    "TRL preference (explicit prompt)": 4,
    "TRL conversational preference (explicit prompt)": 1,
    "HH-RLHF": 2,
    "query": 1,
  }
  assert reading.format == "TRL preference (explicit prompt)"
  first, *rest = reading.records
  assert first.query == "\n\nHuman: Write a talk.\n\nAssistant:"
  quoted = tuple((unquote_markers(text), find_marker(text)) for text in first.responses)
  assert quoted == ((f" {quoting}A", None), (f" {quoting}B", None))
  assert [(one.query, one.responses) for one in rest] == [(QUERY, (f" {GOOD}", f" {BAD}"))] * 5
  assert reading.records[-1].query_id == "12"
  assert {
    "unknown form": 1,
    "missing field": 1,
    "no assistant turn": 1,
  }.items() <= reading.dropped.items()


def test_an_id_that_is_none_is_no_reason_to_drop_a_row():
  rows = [{"prompt": ASK, **SIDES, "id": value} for value in ("", {"a": 1}, [7], float("nan"))]
  ids = [record.query_id for record in read(rows).records]
  assert len(ids) == 4 and len(set(ids)) == 1 and len(ids[0]) == 16


def test_what_a_label_or_a_score_says_decides_what_is_golden():
  labelled = [
    {"messages": [user(), assistant(BAD)], "label": False},
    {"instruction": ASK, "output": BAD, "kto_tag": False},
    {"prompt": ASK, "response": BAD, "is_safe": 0},
  ]
  for row in labelled:
    assert "; unwanted response" in reason(row, "demonstrations")
    (name,) = {"label", "kto_tag", "is_safe"} & row.keys()
    (found,) = read([{**row, name: True}], "demonstrations").records
    assert found.response == f" {BAD}"
  alone = {"prompt": ASK, "response": BAD, "helpfulness": 0}
  assert "; nothing to compare" in reason(alone, "demonstrations")
  assert "; nothing to compare" in reason(labelled[1])
  (best,) = read(HELPSTEER[::-1], "demonstrations").records
  assert (best.query, best.response) == (QUERY, f" {GOOD}")
  equal = [{**row, "helpfulness": 2} for row in HELPSTEER]
  assert "; all sides equal" in reason(equal, "demonstrations")
  twice = [HELPSTEER[0], {**HELPSTEER[0], "helpfulness": 0}]
  assert "; contradiction" in reason(twice)
  both = {"prompt": ASK, "response": GOOD, "label": True, "kto_tag": False}
  assert "; contradiction" in reason(both, "demonstrations")


def test_rows_of_one_query_are_one_record_in_its_first_row_s_place():
  other = [{**row, "prompt": "Else?"} for row in HELPSTEER]
  lonely = {**HELPSTEER[0], "prompt": "Alone?"}
  reading = read([HELPSTEER[0], lonely, other[0], {"prompt": ASK, **SIDES}, HELPSTEER[1], other[1]])
  queries = [record.query for record in reading.records]
  assert queries == [QUERY, "\n\nHuman: Else?\n\nAssistant:", QUERY]
  assert reading.numbers == (1, 3, 4)
  assert (reading.rows, reading.joined, reading.dropped) == (6, 2, {"nothing to compare": 1})
  assert read([lonely, *HELPSTEER], "queries").joined == 1


def test_trees_are_ranked_replies_behind_all_turns_above_them():
  rows = [
    *TREE[::-1],
    node("d", "c", "Another?", "prompter", 0),
    node("e", "d", "The Aral.", "assistant"),
    node("f", "d", "Gone.", "assistant", deleted=True),
    node("g", "z", "Lost.", "assistant", 0),
  ]
  reading = read(rows)
  assert [record.query for record in reading.records] == [QUERY]
  assert reading.dropped == {"unwanted response": 1, "missing field": 1, "nothing to compare": 2}
  assert reading.rows == len(reading.records) + reading.joined + sum(reading.dropped.values())
  found = read(rows, "demonstrations").records
  deeper = f"{QUERY} {GOOD}\n\nHuman: Another?\n\nAssistant:"
  assert found == (
    Demonstration("a", QUERY, f" {GOOD}"), Demonstration("d", deeper, " The Aral."),
  )  # fmt: skip
  unranked = [row | {"rank": None} for row in TREE]
  assert "have no rank" in reason(unranked) and len(read(unranked, "queries").records) == 1


def test_all_that_nothing_read_is_reported():
  thinking = {**assistant(GOOD), "reasoning_content": "Hm."}
  row = {"prompt": ASK, "question": "Else?", "chosen": [thinking], "rejected": [assistant(BAD)]}
  reading = read([row | {"source": "x", "url": None, "note": ""}, {"prompt": ASK, **SIDES}])
  assert reading.read == ("prompt", "chosen", "rejected")
  assert reading.unread == ("question", "source", "chosen.reasoning_content")


CODE = "    if x:\n        return 1  # one\n\n    return 2"


@pytest.mark.parametrize(
  "row",
  [
    {"prompt": ASK, "chosen": f"\n{CODE}\n", "rejected": BAD},
    {"prompt": [user()], "chosen": [assistant(f"{CODE}\n\n")], "rejected": [assistant(BAD)]},
    {"prompt": ASK, "responses": [CODE, BAD], "scores": [1, 0]},
    {"prompt": ASK, "response_0": BAD, "response_1": CODE, "better_response_id": 1},
    {"chosen": f"{QUERY} {CODE}", "rejected": f"{QUERY} {BAD}"},
    {"chosen": f"{ASK}\n{CODE}", "rejected": f"{ASK}\n{BAD}"},
    {"query": QUERY, "responses": [f" {CODE}", f" {BAD}"], "scores": [1, 0]},
  ],
)
def test_white_space_inside_an_answer_stays(row):
  (record,) = read([row]).records
  assert record.responses[record.scores.index(max(record.scores))] == f" {CODE}"
  # Records are rows of our own form, and are read as what they are.
  assert read([vars(record)]).records == (record,)
  assert isinstance(record, Preference)
