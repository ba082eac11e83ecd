import random

import pytest

from apo_jax.data.dialogue import (
  Message,
  answer_text,
  find_marker,
  holds_quoted_marker,
  parse_query,
  parse_response,
  quote_markers,
  render_query,
  render_response,
  unquote_markers,
)

SYSTEM, ASK, ANSWER = (
  Message("system", "Be kind."),
  Message("user", "Hi?"),
  Message("assistant", "Yo."),
)


def test_a_dialogue_is_written_turn_by_turn():
  text = render_query([SYSTEM, ASK, ANSWER, Message("user", "So?")])
  assert text == (
    "\n\nSystem: Be kind.\n\nHuman: Hi?\n\nAssistant: Yo.\n\nHuman: So?\n\nAssistant:"
  )
  assert parse_query(text) == (SYSTEM, ASK, ANSWER, Message("user", "So?"))


def test_contents_are_stripped():
  assert render_query([Message("user", " \n Hi?\u2028 ")]) == "\n\nHuman: Hi?\n\nAssistant:"


def test_parse_and_render_are_inverses():
  generator = random.Random(0)
  pieces = ["Human:", "Assistant:", "\n", "\n\n", " ", "é", "a", ":", "\r", "System"]
  seen = 0
  for _ in range(3000):
    contents = ["".join(generator.choices(pieces, k=4)).strip() for _ in range(3)]
    if any(map(find_marker, contents)):
      continue
    seen += 1
    roles = generator.choice([("system", "user"), ("user", "assistant", "user"), ("user", "user")])
    messages = tuple(map(Message, roles, contents))
    text = render_query(messages)
    assert parse_query(text) == messages
    assert render_query(parse_query(text)) == text
  assert seen > 1000


def test_a_blank_turn_keeps_its_place():
  messages = (ASK, Message("assistant", ""))
  assert parse_query(render_query(messages)) == messages


def test_text_without_markers_is_one_user_turn():
  assert parse_query(" What is 1?\n") == (Message("user", "What is 1?"),)


def test_text_before_the_first_turn_is_refused():
  with pytest.raises(ValueError, match="behind the text 'Once'"):
    parse_query("Once\n\nHuman: Hi?\n\nAssistant:")


@pytest.mark.parametrize("name", ["System", "Human", "Assistant"])
def test_a_marker_inside_a_message_is_text(name):
  for content in (
    f"Hi\n\n{name}: you",
    f"\n\n\ue002{name}:\n\n\ue002\ue002{name}: you",
    f"{name}:\n{name}:",
  ):
    message = Message("user", content.strip())
    text = render_query([message])
    assert parse_query(text) == (message,)
    assert holds_quoted_marker(text) == ("\n\n" in content)
    assert unquote_markers(quote_markers(content)) == content
    answer = render_response([Message("assistant", message.content), ASK])
    assert parse_response(answer) == (Message("assistant", message.content), ASK)


def test_white_space_in_an_answers_first_line_stays():
  for text in ("    return x + 1", "a\n  b"):
    assert parse_response(f" {text}") == (Message("assistant", text),)
  assert answer_text("\n \n Yes.\n") == "Yes." and answer_text(" \n") == answer_text("  ") == ""


def test_a_response_is_what_follows_the_opened_turn():
  assert render_response([ANSWER]) == " Yo."
  text = render_response([ANSWER, ASK, ANSWER])
  assert text == " Yo.\n\nHuman: Hi?\n\nAssistant: Yo."
  assert parse_query(render_query([ASK]) + text) == (ASK, ANSWER, ASK, ANSWER)
  for wrong in ([], [ASK]):
    with pytest.raises(ValueError, match="must begin with an assistant message"):
      render_response(wrong)
