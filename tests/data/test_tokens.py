import copy
import dataclasses
import itertools
import random
import sys

import numpy as np
import pytest
import tokenizers

from apo_jax.config.fields import ConfigError
from apo_jax.data.tokens import (
  SPECIAL,
  load_tokenizer,
  make_codec,
  train_tokenizer,
)
from apo_jax.data.toy import dialogues
from apo_jax.rows.rows import Response, make_rows
from tests import tiny
from tests.data import chat_models

CONFIG = tiny.config()
QUERY = "\n\nHuman: Who has the red ball?\n\nAssistant:"
LENGTH = CONFIG.data.row_length


def plain_ids(text):
  return tiny.codec().tokenizer(text, add_special_tokens=False)["input_ids"]


def codec_with(tokenizer=None, vocab_size=1_000, **data):
  config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, **data))
  return make_codec(tokenizer or tiny.codec().tokenizer, config, vocab_size)


def chat_codec(name="chatml", query_length=200, row_length=250):
  tokenizer = chat_models.tokenizer(name)
  return codec_with(tokenizer, query_length=query_length, row_length=row_length)


@pytest.fixture(scope="module")
def toy_texts():
  data = dialogues.generate(1, 200, 50, 50, 50, 50)
  texts = [text for record in data.demonstrations for text in (record.query, record.response)]
  return [*texts, *(text for record in data.test.preferences for text in record.responses)]


def test_a_row_is_the_ids_of_query_and_response_joined():
  codec = tiny.codec()
  (query,) = codec.encode_queries([QUERY])
  (response,) = codec.encode_responses([" Ann has it."])
  assert query == [codec.bos, *plain_ids(QUERY)]
  assert response == Response(plain_ids(" Ann has it."), finished=True)
  rows = make_rows([(query, [response])], 1, LENGTH, codec.eos)
  joined = [codec.bos, *plain_ids(QUERY), *plain_ids(" Ann has it."), codec.eos]
  assert rows.tokens[0, 0, : len(joined)].tolist() == joined


def test_no_token_crosses_the_border():
  codec = tiny.codec()
  left, right = " A", "nn has it."
  # The same text in one piece has a token with letters of both.
  assert plain_ids(left + right) != plain_ids(left) + plain_ids(right)
  (query,) = codec.encode_queries([left])
  (response,) = codec.encode_responses([right])
  assert (codec.decode(query), codec.decode(response.tokens)) == (left, right)


def test_long_queries_lose_their_left_and_keep_bos_and_separator():
  codec = codec_with(query_length=6, separator="#")
  ids = plain_ids(QUERY)
  assert len(ids) > 4
  (query,) = codec.encode_queries([QUERY])
  assert query == [codec.bos, *ids[-4:], *plain_ids("#")]
  assert QUERY.endswith(codec.decode(query[1:-1]))


def test_queries_that_just_fit_are_whole():
  ids = plain_ids(QUERY)
  codec = codec_with(query_length=len(ids) + 2, separator="#")
  assert codec.encode_queries([QUERY]) == [[codec.bos, *ids, codec.form.separator]]
  codec = codec_with(query_length=len(ids) + 1, separator="#")
  assert codec.encode_queries([QUERY]) == [[codec.bos, *ids[1:], codec.form.separator]]


@pytest.mark.parametrize(("separator", "shortest"), [("", 2), ("#", 3)])
def test_a_query_length_that_holds_no_query_is_refused(separator, shortest):
  codec = codec_with(query_length=shortest, separator=separator)
  assert codec.encode_queries([QUERY])[0][1] == plain_ids(QUERY)[-1]
  with pytest.raises(ConfigError, match=rf"config\.data\.query_length is {shortest - 1};"):
    codec_with(query_length=shortest - 1, separator=separator)


def test_a_tokenizer_without_bos_starts_with_the_query():
  tokenizer = copy.deepcopy(tiny.codec().tokenizer)
  tokenizer.bos_token = None
  codec = codec_with(tokenizer, query_length=4)
  assert codec.bos is None
  assert codec.encode_queries([QUERY]) == [plain_ids(QUERY)[-4:]]


def test_responses_are_encoded_whole():
  ids = plain_ids(" Ann has the red ball.")
  assert codec_with(row_length=5).encode_responses([" Ann has the red ball."]) == [Response(ids)]


def test_texts_are_encoded_one_by_one_as_together():
  codec = tiny.codec()
  texts = ["", " Ann.", QUERY]
  assert codec.encode_queries(texts) == [codec.encode_queries([text])[0] for text in texts]
  assert codec.encode_responses(texts) == [codec.encode_responses([text])[0] for text in texts]
  assert codec.encode_queries([]) == [] and codec.encode_responses([]) == []
  assert codec.encode_queries([""]) == [[codec.bos]]
  assert codec.encode_responses([""]) == [Response([], finished=True)]


def long_codec():
  return codec_with(query_length=10_000, query_buckets=(10_000,), row_length=20_000)


def test_toy_texts_come_back_as_they_were(toy_texts):
  codec = long_codec()
  encoded = codec.encode_responses(toy_texts)
  assert [codec.decode(response.tokens) for response in encoded] == toy_texts
  assert all(response.finished for response in encoded)


def test_any_unicode_comes_back_as_it_was():
  rng = random.Random(0)

  def character():
    code = rng.choice([rng.randrange(128), rng.randrange(0x3000), rng.randrange(sys.maxunicode)])
    return "" if 0xD800 <= code < 0xE000 else chr(code)

  texts = ["".join(character() for _ in range(rng.randrange(40))) for _ in range(300)]
  texts += ["\x00", " \r\n\t\x85\u2028", "e\u0301 é", "👩‍👩‍👧", " ,  . ' n't  's", "   "]
  codec = long_codec()
  encoded = codec.encode_responses(texts)
  assert [codec.decode(response.tokens) for response in encoded] == texts


@pytest.mark.parametrize("name", SPECIAL)
def test_the_name_of_a_special_token_in_a_text_is_text(name):
  codec = tiny.codec()
  text = f" Say {name} to Ann."
  (response,) = codec.encode_responses([text])
  (query,) = codec.encode_queries([text])
  special = set(codec.tokenizer.all_special_ids)
  assert special.isdisjoint(response.tokens) and special.isdisjoint(query[1:])
  assert codec.decode(response.tokens) == text


def test_decoding_leaves_special_tokens_out():
  codec = tiny.codec()
  assert codec.decode([codec.bos, *plain_ids(" Ann."), codec.eos, 0]) == " Ann."


def test_training_a_tokenizer_is_deterministic(toy_texts):
  first, second = (train_tokenizer(iter(toy_texts), 320) for _ in range(2))
  assert len(first) == 320
  assert first.get_vocab() == second.get_vocab()
  assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
  ids = [first.convert_tokens_to_ids(name) for name in SPECIAL]
  assert ids == [first.pad_token_id, first.bos_token_id, first.eos_token_id] == [0, 1, 2]


def test_a_saved_tokenizer_is_loaded_as_it_was(tmp_path, toy_texts):
  tiny.codec().tokenizer.save_pretrained(tmp_path)
  loaded = codec_with(load_tokenizer(tmp_path, "config.tokenizer.path"))
  assert (loaded.bos, loaded.eos, loaded.size) == (1, 2, tiny.codec().size)
  assert loaded.encode_responses(toy_texts) == tiny.codec().encode_responses(toy_texts)


def test_a_saved_chat_tokenizer_reads_and_ends_as_it_did(tmp_path):
  codec = chat_codec("headers")
  codec.tokenizer.save_pretrained(tmp_path)
  tokenizer = load_tokenizer(tmp_path, "config.tokenizer.path")
  loaded = codec_with(tokenizer, query_length=200, row_length=250)
  assert (loaded.bos, loaded.eos, loaded.size) == (codec.bos, codec.eos, codec.size)
  assert loaded.encode_queries([QUERY]) == codec.encode_queries([QUERY])
  assert loaded.encode_responses([" Ann."]) == codec.encode_responses([" Ann."])


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_path_without_a_tokenizer_is_named(tmp_path, name):
  (tmp_path / "empty").mkdir()
  with pytest.raises(ConfigError) as error:
    load_tokenizer(tmp_path / name, "config.tokenizer.path")
  assert str(error.value).startswith(f"config.tokenizer.path is {str(tmp_path / name)!r}")


def test_the_separator_must_be_one_token_of_the_tokenizer():
  assert codec_with(separator="#").form.separator == plain_ids("#")[0]
  assert codec_with(separator="").form.separator is None
  with pytest.raises(ConfigError, match=r"config\.data\.separator is '##'"):
    codec_with(separator="##")


def test_the_unknown_token_is_no_separator():
  tokenizer = copy.deepcopy(tiny.codec().tokenizer)
  tokenizer.unk_token = "?"
  assert tokenizer.convert_tokens_to_ids("##") == tokenizer.unk_token_id is not None
  with pytest.raises(ConfigError, match=r"config\.data\.separator is '##'"):
    codec_with(tokenizer, separator="##")


def test_the_model_may_know_more_ids_than_the_tokenizer():
  size = tiny.codec().size
  assert codec_with(vocab_size=size).size == codec_with(vocab_size=size + 50).size == size


def test_a_tokenizer_larger_than_the_models_vocabulary_is_refused():
  size = tiny.codec().size
  tokenizer = copy.deepcopy(tiny.codec().tokenizer)
  tokenizer.name_or_path = "some/tokenizer"
  with pytest.raises(ConfigError) as error:
    codec_with(tokenizer, vocab_size=size - 1)
  assert f"'some/tokenizer' has {size} entries, but the model only {size - 1}" in str(error.value)


def test_a_special_token_beyond_the_models_table_does_no_harm():
  """As Gemma 3's image token, which its text models have no embedding for."""
  size = tiny.codec().size
  tokenizer = copy.deepcopy(tiny.codec().tokenizer)
  tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
  assert len(tokenizer) == size + 1
  codec = codec_with(tokenizer, vocab_size=size)
  assert codec.size == size
  (ids,) = codec.encode_queries(["\n\nHuman: What is an <image>?\n\nAssistant:"])
  assert max(ids) < size
  tokenizer.add_tokens(["plain"])
  with pytest.raises(ConfigError, match=f"has {size + 2} entries, but the model only {size}"):
    codec_with(tokenizer, vocab_size=size)


def test_ids_with_gaps_count_up_to_the_largest():
  """Some tokenizers skip ids, so their number of entries is not one more than the largest."""

  class WithGap(type(tiny.codec().tokenizer)):
    def get_vocab(self):
      return {**super().get_vocab(), "far": 499}

  tokenizer = copy.deepcopy(tiny.codec().tokenizer)
  tokenizer.__class__ = WithGap
  codec = codec_with(tokenizer)
  assert codec.size == 500
  assert len(codec.texts()) == 500 and codec.texts()[450] == ""
  with pytest.raises(ConfigError, match="has 500 entries, but the model only 499"):
    codec_with(tokenizer, vocab_size=499)


def test_a_tokenizer_without_eos_is_refused():
  tokenizer = copy.deepcopy(tiny.codec().tokenizer)
  tokenizer.eos_token = None
  with pytest.raises(ConfigError, match="no end-of-sequence token"):
    codec_with(tokenizer)


def test_every_end_that_is_named_ends_a_response_and_nothing_else_that_is_special_is_drawn():
  codec = chat_codec("headers")
  tokenizer = codec.tokenizer
  ids = {name: tokenizer.convert_tokens_to_ids(name) for name in tokenizer.all_special_tokens}
  ids |= {name: tokenizer.convert_tokens_to_ids(name) for name in ("<|head|>", "<|/head|>")}
  eot = tokenizer.convert_tokens_to_ids("<|eot|>")
  assert codec.eos == eot and codec.ends == {eot, ids["<eos>"]}
  assert codec.never_drawn == {ids[name] for name in ("<pad>", "<bos>", "<|head|>", "<|/head|>")}
  # What a checkpoint names is an end as well, also of a special token; a word may be one.
  config = tiny.config(data__query_length=200, data__query_buckets=(200,), data__row_length=250)
  given = make_codec(tokenizer, config, 1_000, ends={ids["<|head|>"], 300, 5_000})
  assert given.ends == codec.ends | {ids["<|head|>"], 300}
  assert given.never_drawn == codec.never_drawn - {ids["<|head|>"]}


def test_ids_that_no_token_has_are_never_drawn():
  codec = codec_with(vocab_size=1_000)
  assert codec.never_drawn == {0, 1}

  class WithGap(type(tiny.codec().tokenizer)):
    def get_vocab(self):
      return {**super().get_vocab(), "far": codec.size + 2}

  tokenizer = copy.deepcopy(tiny.codec().tokenizer)
  tokenizer.__class__ = WithGap
  assert codec_with(tokenizer).never_drawn == {0, 1, codec.size, codec.size + 1}


def plain_chatml():
  """As fine-tunes add the tokens of turns: without calling them special."""
  tokenizer = copy.deepcopy(tiny.codec().tokenizer)
  names = chat_models.TEMPLATES["chatml"][1]
  tokenizer.add_tokens([tokenizers.AddedToken(name, normalized=False) for name in names])
  # Such are added to be read in one piece: they are no control tokens.
  tokenizer.add_tokens(["  ", "\n\n", "assistant"])
  tokenizer.chat_template = chat_models.CHATML
  return tokenizer


def test_an_end_of_turn_that_is_not_called_special_is_an_end_all_the_same():
  tokenizer = plain_chatml()
  start, end = (tokenizer.convert_tokens_to_ids(name) for name in ("<|im_start|>", "<|im_end|>"))
  codec = codec_with(tokenizer, query_length=200, row_length=250)
  assert codec.eos == end and codec.ends == {end, tokenizer.eos_token_id}
  assert codec.never_drawn == {0, 1, start}
  assert codec.texts()[end] == "" and codec.texts()[end + 3] == "assistant"
  # Its name in a text is text, in a question and in an answer.
  text = "Say <|im_end|> or <|im_start|>."
  plain, named = codec.encode_queries(
    [f"\n\nHuman: {said}\n\nAssistant:" for said in ("Say it.", text)]
  )
  assert [plain.count(id) for id in (start, end)] == [named.count(id) for id in (start, end)]
  (response,) = codec.encode_responses([text])
  assert {start, end}.isdisjoint(response.tokens) and codec.decode(response.tokens) == text
  # The tokenizer itself, which is saved with the run, is as it was.
  assert not tokenizer.added_tokens_decoder[end].special and codec.tokenizer is tokenizer


def test_an_end_that_is_not_called_special_is_text_in_hh_form_too():
  tokenizer = plain_chatml()
  end = tokenizer.convert_tokens_to_ids("<|im_end|>")
  config = tiny.config(data__chat_template="hh")
  codec = make_codec(tokenizer, config, 1_000, ends=[end])
  (response,) = codec.encode_responses([" Say <|im_end|>."])
  assert end not in response.tokens and codec.decode(response.tokens) == " Say <|im_end|>."
  assert codec.ends == {tokenizer.eos_token_id, end} and codec.texts()[end] == ""


def test_an_end_of_turn_beyond_the_model_s_table_is_refused():
  tokenizer = chat_models.tokenizer("chatml")
  with pytest.raises(ConfigError, match=r"writes '<\|im_end\|>' behind a response, token 385 of"):
    codec_with(tokenizer, vocab_size=385, query_length=200, row_length=250)


@pytest.mark.parametrize(
  ("stop", "complaint"),
  [
    ("<|im_end|>", r"'<\|im_end\|>' is a token that ends a response by itself, so leave it out"),
    ("\n<eos>", r"'<eos>' is a token that ends a response by itself, so leave it out"),
    ("<|im_start|>user", r"'<\|im_start\|>' is a token that is never drawn, so leave it out"),
    ("é", "a character of which the tokenizer splits over several tokens"),
  ],
)
def test_a_stop_string_that_is_never_seen_is_refused_for_its_reason(stop, complaint):
  lengths = {
    "data__query_length": 200,
    "data__query_buckets": (200,),
    "data__row_length": 250,
  }
  config = tiny.config(sampling__training__stop=("\nHuman", stop), **lengths)
  for tokenizer in (chat_models.tokenizer("chatml"), plain_chatml()):
    with pytest.raises(ConfigError, match=rf"sampling\.training\.stop holds .*{complaint}"):
      make_codec(tokenizer, config, 1_000)


def test_a_chat_templates_query_response_and_end():
  codec = chat_codec("turns")
  (query,), (response,) = codec.encode_queries([QUERY]), codec.encode_responses([" Ann has it."])
  tokenizer = codec.tokenizer
  assert tokenizer.decode(query) == "<bos><turn>user\nWho has the red ball?</turn>\n<turn>model\n"
  assert tokenizer.decode(response.tokens) == codec.decode(response.tokens) == "Ann has it."
  assert tokenizer.convert_ids_to_tokens(codec.eos) == "</turn>"
  assert codec.bos == tokenizer.bos_token_id


def test_responses_behind_brackets_follow_a_blank():
  codec = chat_codec("brackets")
  texts = ["Ann.", " Ann.", "\n Ann."]
  encoded = codec.encode_responses(texts)
  assert [codec.decode(response.tokens) for response in encoded] == [" Ann."] * 3


def chat_query(*said):
  roles = itertools.cycle(["Human", "Assistant"])
  turns = "".join(f"\n\n{role}: {text}" for role, text in zip(roles, said, strict=False))
  return f"{turns}\n\nAssistant:"


@pytest.mark.parametrize("name", ["headers", "chatml"])
def test_long_chat_queries_are_cut_between_turns(name):
  """The system turn stays where it fits, and then the newest turns."""
  system = "\n\nSystem: Be brief."
  said = ["Who has the ball?", "Ann.", "And the box?", "Ben.", "And the red cube?"]
  text = system + chat_query(*said)

  def ids(part):
    return chat_codec(name, query_length=300, row_length=400).encode_queries([part])[0]

  parts = [
    text,
    system + chat_query(*said[2:]),
    system + chat_query(*said[4:]),
    chat_query(said[4]),
  ]
  if name == "chatml":
    parts.pop()  # whose template writes a system turn of its own where none is given
  for part, shorter in itertools.pairwise(parts):
    longest = len(ids(part))
    for length in (longest, longest - 1):
      codec = chat_codec(name, query_length=length)
      assert codec.encode_queries([text]) == [ids(part if length == longest else shorter)]


@pytest.mark.parametrize("name", ["headers", "chatml"])
def test_a_question_that_is_too_long_loses_its_left_within_its_turn(name):
  whole = chat_codec(name).encode_queries([QUERY])[0]
  codec = chat_codec(name, query_length=len(whole) - 4)
  (ids,) = codec.encode_queries([QUERY])
  text = codec.form.tokenizer.decode(ids)
  assert (
    text.endswith(codec.form.tokenizer.decode(whole)[-60:][-30:]) and len(ids) <= len(whole) - 4
  )
  kept = next(
    n
    for n in range(40)
    if chat_query("Who has the red ball?"[n:].strip())
    and codec.form.query_ids([chat_query("Who has the red ball?"[n:])]) == [ids]
  )
  assert 0 < kept < 20


def test_a_part_of_a_query_that_fits_nowhere_is_named():
  codec = chat_codec("headers", query_length=chat_codec("headers").shortest_query)
  with pytest.raises(
    ConfigError, match=r"query_length is \d+, which the shortest part of the query"
  ):
    codec.encode_queries([chat_query("👩‍👩‍👧")])


def test_a_query_length_that_holds_only_the_template_is_refused():
  added = chat_codec("chatml").form.num_added
  assert added == len(chat_codec("chatml").encode_queries(["\n\nHuman: B\n\nAssistant:"])[0]) - 1
  chat_codec("chatml", query_length=added + 1)
  with pytest.raises(ConfigError, match=rf"query_length is {added}; it must be above {added}, the"):
    chat_codec("chatml", query_length=added)


def test_hh_form_leaves_a_tokenizers_template_aside():
  codec = codec_with(chat_models.tokenizer("turns"), chat_template="hh")
  assert codec.encode_queries([QUERY]) == tiny.codec().encode_queries([QUERY])
  assert codec.encode_responses([" Ann."]) == tiny.codec().encode_responses([" Ann."])
  assert codec.eos == tiny.codec().eos


def test_an_end_of_turn_that_is_also_the_padding_is_trained_on():
  """As in many chat models: one id ends turns, ends responses and pads."""
  tokenizer = copy.deepcopy(chat_models.tokenizer("chatml"))
  tokenizer.pad_token = tokenizer.eos_token = "<|im_end|>"
  codec = codec_with(tokenizer, query_length=200, row_length=250)
  assert codec.eos == tokenizer.pad_token_id
  (query,), (response,) = codec.encode_queries([QUERY]), codec.encode_responses([" Ann has it."])
  assert query.count(codec.eos) == 2  # behind the system turn and the question
  length = len(query) + len(response.tokens) + 9
  rows = make_rows([(query, [response])], 1, length, codec.eos)
  end = len(query) + len(response.tokens)
  assert rows.tokens[0, 0, end] == codec.eos
  np.testing.assert_array_equal(np.flatnonzero(rows.response_mask), range(len(query), end + 1))
  np.testing.assert_array_equal(np.flatnonzero(rows.segment_ids), range(end + 1))
  np.testing.assert_array_equal(np.flatnonzero(rows.segment_ids == 1), range(len(query)))


def test_padding_with_eos_changes_no_row():
  """Lengths, never ids, say what is padding."""
  tokenizer = copy.deepcopy(tiny.codec().tokenizer)
  tokenizer.pad_token = tokenizer.eos_token
  other = codec_with(tokenizer)
  assert tokenizer.pad_token_id == other.eos == tiny.codec().eos
  texts = [" Ann has it.", ""]

  def rows(codec):
    responses = codec.encode_responses(texts)
    return make_rows([(codec.encode_queries([QUERY])[0], responses)], 3, LENGTH, codec.eos)

  for array, expected in zip(rows(other), rows(tiny.codec()), strict=True):
    np.testing.assert_array_equal(array, expected)
  counts = rows(other).response_mask.sum(-1)
  assert counts.tolist() == [[len(plain_ids(texts[0])) + 1, 1, 0]]
