"""The data as token ids: what was encoded once is what would be encoded again."""

import copy
import dataclasses

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data import tokenised
from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.data.tokenised import cut_and_left_out, responses_of, tokenise, tokenise_records
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
  return codec_with(query_length=200, row_length=400)


def toy_data():
  return dialogues.generate(1, 9, 8, 7, 6, 5)


@pytest.mark.parametrize(
  "codec",
  [
    long_codec(),
    codec_with(query_length=9, row_length=60),
    codec_with(chat_models.tokenizer("chatml"), query_length=200, row_length=250),
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
    assert [one._replace(tokens=list(one.tokens)) for one in one.responses] == responses
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
  codec = codec_with(tokenizer, query_length=200, row_length=250)
  with pytest.raises(ConfigError, match=r"config.data.chat_template refuses the query"):
    tokenise_records(codec, RECORDS)


def test_no_response_is_cut():
  """A long one takes the left of its query; one that is too long alone is left out and counted."""
  (whole,) = tokenise_records(long_codec(), [PREFERENCE])
  longest, query = max(one.num_slots for one in whole.responses), len(whole.query)
  least = long_codec().shortest_query
  for length in (longest + query, longest + query - 3, longest + least):
    (one,) = tokenise_records(codec_with(query_length=200, row_length=length), [PREFERENCE])
    assert one.responses == whole.responses
    assert (len(one.query), one.is_cut) == (length - longest, length < longest + query)
    assert list(one.query[1:]) == list(whole.query[len(whole.query) - len(one.query) + 1 :])
    assert one.query[0] == whole.query[0] == long_codec().bos
  # A preference keeps the responses that fit, where two of them differ.
  (one,) = tokenise_records(codec_with(row_length=longest + least - 1), [PREFERENCE])
  assert one.record.responses == PREFERENCE.responses[1:] and one.record.scores == (0.5, 0.0)
  assert one.responses == whole.responses[1:]


def test_samples_and_golden_responses_are_behind_the_same_query():
  """What is cut for a long golden response is what samples are drawn behind."""
  golden = Demonstration("g", QUERY, " Ann has the red ball." * 3)
  (one,) = tokenise_records(codec_with(row_length=40), [golden])
  assert one.is_cut and len(one.query) + one.responses[0].num_slots == 40
  assert one.item == (one.query, one.responses)


def test_equal_responses_are_left_out():
  twins = dataclasses.replace(PREFERENCE, responses=(" Ann.", " Ann."), scores=(1.0, 0.0))
  three = dataclasses.replace(PREFERENCE, responses=(" A.", " B.", " A."), scores=(0.0, 0.5, 1.0))
  data = dataclasses.replace(toy_data(), demonstrations=())
  preferences = (*data.reward.preferences, twins, three)
  data = dataclasses.replace(data, reward=dataclasses.replace(data.reward, preferences=preferences))
  found = tokenise(long_codec(), data)
  assert len(found.reward.preferences) == len(preferences) - 2
  assert found.left_out["reward.preferences"] == {"equal responses": 2}


def test_the_test_side_has_room_for_its_samples():
  """Evaluations may draw longer samples than training; golden responses are as whole there."""
  config = tiny.config(data__row_length=60, sampling__evaluation__max_new_tokens=99)
  codec = make_codec(tiny.codec().tokenizer, config, 1_000)
  assert (codec.row_length, codec.judged_length) == (60, 30 + 99 + 1)
  long = Demonstration("g", QUERY, " Ann has the red ball." * 9)
  data = toy_data()
  data = dataclasses.replace(
    data,
    reward=dataclasses.replace(data.reward, golden=(*data.reward.golden, long)),
    test=dataclasses.replace(data.test, golden=(*data.test.golden, long)),
  )
  found = tokenise(codec, data)
  assert found.left_out["reward.golden"] == {"too long": 1} and not found.left_out["test.golden"]
  assert found.test.golden[-1].record == long


def test_what_is_left_out_is_counted_and_nothing_left_is_an_error():
  data = toy_data()
  counts = cut_and_left_out(tokenise(long_codec(), data))
  assert list(counts) == [
    "demonstrations",
    *(
      f"{s}.{n}" for s in ("reward", "policy", "test") for n in ("preferences", "golden", "queries")
    ),
  ]
  assert counts["reward.golden"] == {"records": len(data.reward.golden), "cut_queries": 0}
  assert all(list(one) == ["records", "cut_queries"] for one in counts.values())
  cut = cut_and_left_out(tokenise(codec_with(query_length=5, row_length=60), data))
  assert all(one["cut_queries"] == one["records"] for one in cut.values())
  with pytest.raises(ConfigError, match=r"row_length is 5, and no row of demonstrations fits it"):
    tokenise(codec_with(row_length=5), data)


def test_responses_of_every_record():
  data = toy_data()
  preference, demonstration = data.reward.preferences[0], data.demonstrations[0]
  assert responses_of(preference) == preference.responses
  assert responses_of(demonstration) == (demonstration.response,)
  assert responses_of(data.policy.queries[0]) == ()
