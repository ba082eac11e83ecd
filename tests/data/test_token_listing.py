import dataclasses

from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.data.token_listing import list_tokens
from apo_jax.data.tokenised import tokenise_records
from apo_jax.data.tokens import make_codec
from apo_jax.rows.rows import make_rows
from tests import tiny
from tests.data import chat_models

QUERY = "\n\nHuman: Who has it?\n\nAssistant:"
PREFERENCE = Preference("p-1", QUERY, (" Ann.", " Ben has it."), (1.0, 0.25))
RECORDS = (PREFERENCE, Demonstration("g-1", QUERY, " Ann."), Query("q-1", QUERY))


def codec_of(tokenizer, query_length=99, row_length=150):
  config = tiny.config()
  data = dataclasses.replace(config.data, query_length=query_length, row_length=row_length)
  return make_codec(tokenizer, dataclasses.replace(config, data=data), 1_000)


def shown_of(codec, records):
  return list_tokens(codec, tokenise_records(codec, records))


def tokens_behind(text, heading):
  """The tokens and ids in the lines below the first one that begins with `heading`."""
  lines = text.splitlines()
  start = next(i for i, line in enumerate(lines) if line.startswith(heading))
  shown = lines[start + 1].strip().removeprefix("‹").removesuffix("›").split("›‹")
  return shown, [int(token) for token in lines[start + 2].split()[1:]], lines[start]


def test_tokens_and_ids_are_those_of_the_row():
  codec = codec_of(chat_models.tokenizer("turns"))
  text = shown_of(codec, RECORDS)
  (query,) = codec.encode_queries([QUERY])
  shown, ids, heading = tokens_behind(text, "query, ")
  assert ids == query and heading == f"query, {len(query)} tokens:"
  assert "".join(shown) == "<bos><turn>user\\nWho has it?</turn>\\n<turn>model\\n"
  responses = codec.encode_responses(PREFERENCE.responses)
  rows = make_rows([(query, responses)], 2, 99, codec.eos)
  for index, (name, said) in enumerate(
    [("response 1 of 2, score 1:", "Ann."), ("response 2 of 2, score 0.25:", "Ben has it.")]
  ):
    shown, ids, heading = tokens_behind(text, name)
    assert ids == rows.tokens[0, index][rows.response_mask[0, index]].tolist()
    assert "".join(shown) == f"{said}</turn>" and shown[-1] == "</turn>"
    assert f"from place {len(query)} on, trained on, {len(ids)} tokens" in heading
    total = int((rows.segment_ids[0, index] > 0).sum())
    assert f"\n  {total} tokens in all\n" in text


def test_every_kind_of_record_is_named():
  text = shown_of(codec_of(tiny.codec().tokenizer), RECORDS)
  titles = [line for line in text.splitlines() if line.startswith("Example")]
  assert titles == [
    "Example 1: preference 'p-1'",
    "Example 2: golden response 'g-1'",
    "Example 3: query 'q-1'",
  ]
  assert tokens_behind(text, "response: ")[0][-1] == "<eos>"
  assert text.count("trained on,") == 3


def test_what_is_cut_is_said():
  text = shown_of(codec_of(tiny.codec().tokenizer, 8), RECORDS[:1])
  shown, ids, _ = tokens_behind(text, "query, its left cut off, 8 tokens")
  assert shown[0] == "<bos>" and len(ids) == 8
  assert "cut off" not in shown_of(codec_of(tiny.codec().tokenizer), RECORDS)


def test_white_space_and_parts_of_characters_can_be_seen():
  codec = codec_of(tiny.codec().tokenizer)
  text = shown_of(codec, [Demonstration("g", QUERY, "\r\n\t é👧")])
  shown, ids, _ = tokens_behind(text, "response: ")
  assert {"\\r", "\\n", "\\t"} <= set(shown)
  assert "\ufffd" not in text and "\r" not in text and "\t" not in text
  assert len(shown) == len(ids) and all(shown)


def test_no_records_leave_the_legend():
  text = list_tokens(tiny.codec(), [])
  assert text.startswith("Each token stands in") and "Example" not in text
