"""Stop strings over tokens, against searching the whole text."""

import random

import pytest

from apo_jax.data.tokens import make_codec
from apo_jax.data.toy import dialogues
from apo_jax.inference.stopping import stop_table, tokens_before_stop
from tests import tiny
from tests.data import chat_models

PIECES = ["a", "b", "ab", "ba", "bb", "aab", "\n", "Hu", "man", "\nH", "uman", "aH"]


@pytest.mark.parametrize("stops", [("abb",), ("aba", "bab"), ("\nHuman", "ab"), ("aab", "ab")])
def test_automaton_finds_what_searching_the_text_finds(stops):
  table = stop_table(PIECES, stops)
  rng = random.Random(0)
  stopped_early, never = 0, 0
  for _ in range(300):
    state, text = 0, ""
    for _ in range(8):
      token = rng.randrange(len(PIECES))
      state, text = table[state, token], text + PIECES[token]
      found = any(stop in text for stop in stops)
      assert (state == len(table) - 1) == found, text
    stopped_early += found
    never += not found
  assert stopped_early > 20 and never > 20


def test_no_stop_strings_need_no_table():
  assert stop_table(PIECES, ()) is None


HH_TEXTS = [
  " Ann has it.",
  " Sure:\n\n1. Stir!?\n2. Wait...\n\nIs that all you need?",
  ' "Ben"  said so; \tthen\n  he left\u3000— naïvely… 👩‍👩‍👧',
  " 12,5 °C!?",
  " ...",
]
CODECS = {
  "hh": lambda: codec_of(tiny.codec().tokenizer),
  "lines": lambda: codec_of(chat_models.lines_tokenizer()),
  "chatml": lambda: codec_of(chat_models.tokenizer("chatml")),
  "brackets": lambda: codec_of(chat_models.tokenizer("brackets")),
  "lines in turns": lambda: codec_of(chat_models.lines_tokenizer(), chat_models.TURNS),
  "lines in brackets": lambda: codec_of(chat_models.lines_tokenizer(), chat_models.BRACKETS),
}


def codec_of(tokenizer, chat_template=""):
  fields = {
    "data.query_length": 400,
    "data.query_buckets": (400,),
    "data.row_length": 600,
    "data.chat_template": chat_template,
    "sampling.training.stop": (),
    "sampling.evaluation.stop": (),
  }
  return make_codec(tokenizer, tiny.config(**fields), 1_000)


class Stop:
  """What becomes of tokens that a policy would go on with: it ends at the stop, and is cut."""

  def __init__(self, codec, stops):
    self.codec, self.stops, self.texts = codec, stops, codec.texts()
    self.table = stop_table(self.texts, stops)

  def cut(self, tokens):
    state, drawn = 0, []
    for token in tokens:
      drawn.append(token)
      state = self.table[state, token]
      if state == len(self.table) - 1:
        break
    return tokens_before_stop(self.codec, drawn, self.texts, self.stops)


@pytest.mark.parametrize("name", CODECS)
def test_what_a_stop_string_leaves_of_a_golden_text_has_its_ids(name):
  codec = CODECS[name]()
  world = dialogues.generate(2, 1, 1, 20, 1, 1)
  texts = [*(record.response for record in world.reward.golden), *HH_TEXTS]
  for text in ("\nHuman", "\n\nHuman", "Human:", "\n"):
    stop = Stop(codec, (text,))
    golden = [one for one in texts if text not in one]
    expected = [one.tokens for one in codec.encode_responses(golden)]
    for behind in ("\n\nHuman: more", "\n\n\nHuman: more", " \n \u3000\n\nHuman: more"):
      continued = codec.encode_responses([one + behind for one in golden])
      assert [stop.cut(one.tokens) for one in continued] == expected


def test_tokens_are_kept_as_they_were_drawn():
  codec = CODECS["lines"]()
  stop = Stop(codec, ("\nHuman",))
  texts = stop.texts
  split = [texts.index(part) for part in ("A", "n", "n", ".")]
  assert codec.encode_responses(["Ann."])[0].tokens != split  # no tokenizer would write it so
  end = codec.encode_responses(["\n\nHuman"])[0].tokens
  assert stop.cut([*split, *end]) == split
  # The token ".\n\n" is cut, and what is left of it is tokenised behind the others.
  assert stop.cut([*split[:3], texts.index(".\n\n"), *end]) == split
  two = [texts.index("!"), texts.index("?")]
  assert "!?" not in texts
  assert stop.cut([*split[:3], texts.index("!?\n\n"), *end]) == [*split[:3], *two]


@pytest.mark.parametrize("scheme", ["first", "always", "normalizer"])
def test_what_is_left_of_a_token_gets_no_blank_from_the_tokenizer(scheme):
  codec = codec_of(chat_models.blank_tokenizer(scheme))
  text = " Ann has it."
  golden, continued = codec.encode_responses([text, f"{text} \n\nWho has"])
  stop = Stop(codec, ("\nWho",))
  assert ". " in [stop.texts[token] for token in continued.tokens]  # which is cut
  assert stop.cut(continued.tokens) == golden.tokens


@pytest.mark.parametrize(
  ("text", "stops", "left"),
  [
    ("a b\nHuman", ("\nHuman",), "a b"),
    ("a b \n ", ("\nHuman",), "a b \n "),  # no stop string, so nothing is stripped
    ("\n\n a\n\nHuman", ("\nHuman",), "\n\n a"),
    (" \n\n\u3000\nHuman", ("\nHuman",), ""),
    ("Human", ("Human",), ""),
    ("a b Human: c", ("c", "Human:", "b H"), "a"),  # the first of several
  ],
)
def test_text_before_the_stop_string(text, stops, left):
  codec = CODECS["lines"]()
  (response,) = codec.encode_responses([text])
  assert codec.decode(Stop(codec, stops).cut(response.tokens)) == left


def test_token_texts_join_to_the_decoded_text():
  codec = tiny.codec()
  texts = codec.texts()
  (response,) = codec.encode_responses([" Ann has the red ball.\n\nHuman: Who?"])
  ids = response.tokens
  assert "".join(texts[token] for token in ids) == codec.decode(ids)
  assert texts[codec.eos] == ""
