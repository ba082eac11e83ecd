"""The data as token ids: what was encoded once is what would be encoded again."""

import copy
import dataclasses

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data import tokenised
from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.data.tokenised import responses_of, tokenise, tokenise_records, truncated
from apo_jax.data.tokens import make_codec
from apo_jax.data.toy import dialogues
from apo_jax.rows.rows import make_rows, row_length
from tests import tiny
from tests.data import chat_models

QUERY = "\n\nHuman: Who has the red ball?\n\nAssistant:"
PREFERENCE = Preference("p", QUERY, (" Ann has the red ball.", " Ann.", ""), (1.0, 0.5, 0.0))
RECORDS = (
  Query("q", QUERY),
  Demonstration("g", "\n\nHuman: Why?\n\nAssistant:", " So."),
  PREFERENCE,
)


def codec_with(tokenizer=None, **data):
  config = tiny.config()
  config = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
  return make_codec(tokenizer or tiny.codec().tokenizer, config, 1_000)


def long_codec():
  return codec_with(query_length=200, response_length=200)


def toy_data():
  return dialogues.generate(1, 9, 8, 7, 6, 5)


@pytest.mark.parametrize(
  "codec",
  [
    long_codec(),
    codec_with(query_length=9, response_length=4),
    codec_with(chat_models.tokenizer("chatml"), query_length=200, response_length=50),
  ],
  ids=["whole", "cut", "chat"],
)
def test_ids_are_the_codec_s(codec, monkeypatch):
  monkeypatch.setattr(tokenised, "_CHUNK", 2)  # over the border of which nothing changes
  records = [*RECORDS, *toy_data().reward.preferences]
  found = tokenise_records(codec, records)
  assert [one.record for one in found] == records
  for one in found:
    assert list(one.query) == codec.encode_queries([one.record.query])[0]
    responses = codec.encode_responses(responses_of(one.record))
    assert [(list(ids), finished) for ids, finished in one.responses] == responses
    assert one.item == (one.query, one.responses)


def test_equal_ids_are_equal():
  one, other = (tokenise_records(long_codec(), RECORDS) for _ in range(2))
  assert one == other
  assert one[0] != one[1]


def test_rows_are_those_of_the_codec_s_ids():
  codec = long_codec()
  (one,) = tokenise_records(codec, [PREFERENCE])
  (query,), responses = codec.encode_queries([QUERY]), codec.encode_responses(PREFERENCE.responses)
  length = row_length(query, responses)
  assert row_length(*one.item) == length
  ours = make_rows([one.item], 3, length, codec.eos)
  theirs = make_rows([(query, responses)], 3, length, codec.eos)
  assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))


def test_no_records_have_no_ids():
  assert tokenise_records(long_codec(), []) == ()


def test_the_data_keeps_its_lists():
  data = toy_data()
  found = tokenise(long_codec(), data)
  assert tuple(one.record for one in found.demonstrations) == data.demonstrations
  for side in ("reward", "policy", "test"):
    ours, theirs = vars(getattr(found, side)), vars(getattr(data, side))
    assert ours.keys() == theirs.keys()
    for name in theirs:
      assert tuple(one.record for one in ours[name]) == theirs[name]
  assert found.utility is data.utility


def test_a_query_that_the_template_refuses_is_named():
  tokenizer = copy.deepcopy(chat_models.tokenizer("chatml"))
  template = "{{ raise_exception('no') if 'red' in messages[0].content else '' }}"
  tokenizer.chat_template = template + tokenizer.chat_template
  codec = codec_with(tokenizer, query_length=200, response_length=50)
  with pytest.raises(ConfigError, match=r"config.data.chat_template refuses the query"):
    tokenise_records(codec, RECORDS)


def test_what_is_cut_is_counted():
  texts = [QUERY, "\n\nHuman: Ann?\n\nAssistant:", QUERY + " "]
  lengths = [len(ids) for ids in long_codec().encode_queries(texts)]
  codec = codec_with(query_length=lengths[0])
  found = tokenise_records(codec, [Query(str(i), text) for i, text in enumerate(texts)])
  assert [one.is_cut for one in found] == [length > lengths[0] for length in lengths]
  assert sum(one.is_cut for one in found) == 1
  responses = (" Ann has the red ball.", " Ann.")
  room = len(long_codec().encode_responses(responses)[0].tokens)
  preference = Preference("p", QUERY, responses, (1.0, 0.0))
  for length, finished in ((room, [False, True]), (room + 1, [True, True])):
    (one,) = tokenise_records(codec_with(response_length=length), [preference])
    assert [response.finished for response in one.responses] == finished


def test_cut_texts_of_a_whole_game():
  data = toy_data()
  counts = truncated(tokenise(long_codec(), data))
  assert list(counts) == [
    "demonstrations",
    *(
      f"{s}.{n}" for s in ("reward", "policy", "test") for n in ("preferences", "golden", "queries")
    ),
  ]
  assert all(one["cut_queries"] == one["cut_responses"] == 0 for one in counts.values())
  preferences = data.reward.preferences
  assert counts["reward.preferences"]["queries"] == len(preferences) > 0
  assert counts["reward.preferences"]["responses"] == sum(
    len(record.responses) for record in preferences
  )
  assert counts["policy.queries"]["responses"] == 0
  shortest = truncated(tokenise(codec_with(query_length=5, response_length=2), data))
  for name, one in shortest.items():
    assert one["cut_queries"] == one["queries"] == counts[name]["queries"], name
    assert one["cut_responses"] == one["responses"], name


def test_responses_of_every_record():
  data = toy_data()
  preference, demonstration = data.reward.preferences[0], data.demonstrations[0]
  assert responses_of(preference) == preference.responses
  assert responses_of(demonstration) == (demonstration.response,)
  assert responses_of(data.policy.queries[0]) == ()
