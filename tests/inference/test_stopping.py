"""Stop strings over tokens, against searching the whole text."""

import random

import pytest

from apo_jax.inference.stopping import stop_table, tokens_before_stop
from tests import tiny

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


@pytest.mark.parametrize(
  ("tokens", "stops", "kept"),
  [
    (["Hu", "man", "\nH", "uman"], ("\nHuman",), 2),
    (["a", "aH", "uman"], ("Human",), 1),  # the stop string begins inside the second token
    (["a", "b", "\n"], ("\nHuman",), 3),
    (["\nH", "uman", "a"], ("\nHuman",), 0),
    (["b", "a", "\nH", "uman"], ("zz", "Human", "a\n"), 1),  # the first of several
  ],
)
def test_tokens_before_the_stop_string(tokens, stops, kept):
  ids = [PIECES.index(token) for token in tokens]
  left = tokens_before_stop(ids, PIECES, stops)
  assert left[:kept] == ids[:kept]
  # Every piece here has a token for its beginning, so that the text is exactly what came before.
  whole = "".join(tokens)
  cut = min([place for place in map(whole.find, stops) if place >= 0], default=len(whole))
  assert "".join(PIECES[token] for token in left) == whole[:cut]


def test_text_before_a_stop_string_in_the_same_token_is_kept_where_a_token_has_it():
  texts = [" yes", ".", ".\n\n", "Human", "!?\n\n"]
  assert tokens_before_stop([0, 2, 3], texts, ("\n\nHuman",)) == [0, 1]
  assert tokens_before_stop([0, 4, 3], texts, ("\n\nHuman",)) == [0]


def test_token_texts_join_to_the_decoded_text():
  codec = tiny.codec()
  texts = codec.texts()
  (response,) = codec.encode_responses([" Ann has the red ball.\n\nHuman: Who?"])
  ids = response.tokens
  assert "".join(texts[token] for token in ids) == codec.decode(ids)
  assert texts[codec.eos] == ""
