"""Rows of known columns at random: each is read as a known form, or refused with a sentence."""

import functools
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apo_jax.config.fields import ConfigError
from apo_jax.data.columns import (
  CONVERSATION,
  LABELS,
  QUERY,
  RANKS,
  RESPONSE,
  SCORES,
  SYSTEM,
  part_of,
)
from apo_jax.data.formats.table import FORMATS
from apo_jax.data.formats.two_answers import NAMES
from apo_jax.data.reading import to_records

SIDES = ("chosen", "rejected", "chosen_response", "rejected_response")
LISTS = ("responses", "completions", "answers")
ANSWERS = (*SIDES, *RESPONSE, *LISTS, *(name for pair in NAMES[:12] for name in pair), "golden")
VERDICTS = (
  *LABELS, *SCORES, *RANKS, "scores", "ranks", "score_chosen", "score_rejected", "score_0",
  "score_1", "preference_strength", "overall_preference", "better_response_id", "winner",
  "winner_model_a", "winner_model_b", "labels", "preference", "status",
)  # fmt: skip
OF_QUERY = (*QUERY, *SYSTEM, "chat_history", "tools")
OTHERS = ("id", "source", "model_a", "text", "note")


def texts(name):
  """Texts that say which column they are from."""
  word = f"{name} {name}"
  return [
    word, f"{word}: one.", f"    {word}\n", f"{word}?\nmore {word}", f"\n\nHuman: {word}",
    f"\n\nHuman: {word}\n\nAssistant:", f"\n\nHuman: {word}\n\nAssistant: say {word}",
    f"['{word}']", f'["{word}", "{word} two"]', f"[{{'role': 'user', 'content': '{word}'}}]", " ",
  ]  # fmt: skip


def messages(name):
  """Messages, whole and broken."""
  word = f"{name} {name}"
  ask, answer = {"role": "user", "content": word}, {"role": "assistant", "content": f"{word} yes"}
  return [
    ask, answer, [ask], [answer], [ask, answer], [ask, answer, ask], [{"role": "user"}], [ask, 1],
    [{"role": "system", "content": word}, ask, {**answer, "content": word}],
    [{"from": "human", "value": word}, {"from": "gpt", "value": f"{word} no"}],
    [{"role": "developer", "content": word}, ask], [{"role": "tool", "content": word}],
    [{"role": "user", "content": [{"type": "text", "text": word}]}],
    [{"role": "user", "content": [{"type": "image"}]}], [[word, word]],
  ]  # fmt: skip


@functools.cache
def values(name):
  """What a column may hold: mostly what is usual, and all that is wrong."""
  wrong = [None, "", {}, [], 3, [None], {"a": 1}, float("nan"), True]
  word = f"{name} {name}"
  if name in VERDICTS:
    usual = [[1, 0], [3, "2.5"]] if name in ("scores", "ranks") else [0, 1, -2, "1", True, False]
    rare = [0.5, "-1.5", [0.5, 0.5], "[1, 2]", "model_a", "response_1", "tie", "true"]
  elif name in LISTS:
    objects = [{"answer": word, "rank": 1}, {"answer": f"{word} b", "rank": 2}]
    usual = [[word, f"{word} two"], objects if name == "answers" else [f"  {word}", f"{word}\n"]]
    rare = [[word], [{"text": word}], str([word, f"{word} two"]), *texts(name)]
  elif name in CONVERSATION or name == "context":
    usual, rare = messages(name)[2:6], [*texts(name), *messages(name)]
  elif name in OTHERS:
    usual, rare = [word], texts(name)
  else:
    usual, rare = texts(name)[:4], [*texts(name), *messages(name)]
  return st.sampled_from([*usual * (60 // len(usual)), *rare, *wrong])


SOME = st.sampled_from([*OF_QUERY, *ANSWERS, *VERDICTS, *OTHERS])
# A layout that is known, with some more columns, so that many rows are read.
LAYOUTS = st.sampled_from([
  ("prompt", "chosen", "rejected"), ("chosen", "rejected"), ("question", "system", *SIDES[:2]),
  ("context", "response1", "response2", "overall_preference"), ("messages", "chosen", "rejected"),
  ("prompt", "response_0", "response_1", "better_response_id"), ("prompt", "responses", "scores"),
  ("prompt", "answers"), ("prompt", "completion", "label"), ("messages", "score"), ("messages",),
  ("instruction", "input", "output"), ("query", "golden"), ("history", "prompt", "response"), (),
])  # fmt: skip


@st.composite
def rows(draw):
  names = [*draw(LAYOUTS), *draw(st.lists(SOME, max_size=1))]
  return {name: draw(values(name)) for name in names}


def said(value):
  return value is not None and value != "" and value != [] and value != {}


def words_of(text):
  """The columns whose texts are in a text."""
  return {one for one in re.findall(r"\b(\w+) \1\b", text)}


@settings(
  max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(
  st.lists(rows(), min_size=1, max_size=3),
  st.sampled_from(["preferences", "preferences", "demonstrations", "queries"]),
)
def test_a_row_is_read_as_what_it_is_or_refused_with_a_sentence(found, kind):
  try:
    reading = to_records(found, "the rows are 'here'", kind, "skip", {})
  except ConfigError as error:
    assert re.fullmatch(r"the rows are 'here', [^\n]+\.", str(error))
    return
  assert set(reading.formats) <= {form.name for form in FORMATS}
  assert reading.rows == len(found)
  assert reading.rows == len(reading.records) + reading.joined + sum(reading.dropped.values())
  names = {name for row in found for name, value in row.items() if said(value)}
  assert {*reading.read, *(name for name in reading.unread if "." not in name)} == names
  for record, number in zip(reading.records, reading.numbers, strict=True):
    row = found[number - 1]
    # A query is what columns of queries say, or what two whole dialogues share.
    asked, whole = words_of(record.query), {*SIDES, *(name for pair in NAMES for name in pair)}
    assert asked and asked <= {*OF_QUERY, *whole}
    if asked & whole:
      assert not asked & {"prompt", "question", "instruction"}
    if kind != "queries":
      answers = record.responses if kind == "preferences" else (record.response,)
      for answer in answers:
        assert answer.startswith(" ") and words_of(answer) <= {*ANSWERS, *QUERY}
    # What carries a meaning was read, in this row or where its like was.
    for name, value in row.items():
      part = part_of(name)
      if said(value) and (part == "query" or (part == "answers" and kind != "queries")):
        assert name in reading.read or name in UNNEEDED
    if kind == "preferences":
      assert len(record.responses) >= 2 and len(set(record.scores)) >= 2


# Of pairs: of one score alone nothing follows.
UNNEEDED = {name for form in FORMATS for name in form.unneeded}
