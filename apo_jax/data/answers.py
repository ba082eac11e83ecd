"""The query and the responses of a row as canonical text (data/dialogue.py)."""

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.columns import CONVERSATION, QUERY, SYSTEM, TEXTS, RowView, says_nothing
from apo_jax.data.dialogue import (
  Message,
  parse_query,
  quote_markers,
  render_query,
  render_response,
)
from apo_jax.data.messages import listed, messages_of, written_list
from apo_jax.data.values import present, shown, text_of
from apo_jax.data.written_dialogues import HalfWritten, take_apart, without_end, without_left_end

# The marker of an answer at a text's end, which may have lost its line breaks.
_OPEN = re.compile(r"(?:\A|\n)\s*Assistant:\s*\Z")
_BLANKS = re.compile(r"\A(?: {1,2}(?=\S)| )")
# What an instruction is about: Alpaca's column, and Dolly's.
_ABOUT = ("input", "context")
_BEFORE = ("history", "context", "chat_history")


# What a response as text goes on behind: a dialogue in HH form that ends where the answer begins,
# so that its markers open turns; one that a chat template has written, which ends answers; or else.
Behind = Literal["open dialogue", "written dialogue", "other"]


class Asked(NamedTuple):
  """The query of a row.

  Attributes:
    query: canonical.
    behind: what responses as text go on behind.
  """

  query: str
  behind: "Behind"


def asked_of(row: RowView) -> Asked:
  """The query of a row: its turns, those before it, and its system turn.

  Raises:
    BadRow: there is none, or what the row says of it does not fit together.
  """
  if all(row.peek(name) is None for name in QUERY):
    present(row, TEXTS[:4])  # which are the usual names
  name = present(row, QUERY)
  value = row[name]
  turns = (*_turns_before(row, name), *turns_of(_with_input(row, name, value), name))
  return Asked(canonical(with_system(row, turns), name), _behind(value))


def query_of(value: Any, name: str) -> str:
  """The canonical query of a text (a plain prompt, or a dialogue in HH form) or of messages.

  Raises:
    BadRow: there is no question in it, or its turns cannot be written in the canonical form.
  """
  return canonical(turns_of(value, name), name)


def turns_of(value: Any, name: str) -> tuple[Message, ...]:
  """The turns of a text (a plain prompt, or a dialogue in HH form) or of messages.

  Raises:
    BadRow: it is neither, or says nothing.
  """
  value = listed(value, name)
  several = written_list(value) if isinstance(value, str) else value
  if isinstance(several, list) and all(isinstance(one, str) for one in several):
    # The turns of a user, as Chatbot Arena has them.
    if len(several) > 1:
      raise BadRow("wrong turns", f"{name} is {len(several)} turns without the answers between")
    value = several[0] if several else ""
  if not isinstance(value, str):
    return messages_of(value, name)
  text = text_of(value, name).strip()
  if not text:
    raise BadRow("empty query", f"{name} is {value!r}; it must be a text that is not empty")
  return taken_apart(text, name) or _turns_of_text(text, name)


def taken_apart(text: str, name: str, *, is_answer: bool = False) -> tuple[Message, ...] | None:
  """The turns of a dialogue that a chat template has written already; None of other texts.

  Raises:
    BadRow: it begins as one, and cannot be taken apart.
  """
  try:
    turns = take_apart(text, is_answer=is_answer)
  except HalfWritten as error:
    raise BadRow(
      "written by a template", f"{name} is a dialogue that a chat template has written, but {error}"
    ) from error
  if turns and is_answer and turns[0].role != "assistant":
    raise BadRow(
      "written by a template",
      f"{name} is a whole dialogue that a chat template has written; it must be the answer alone",
    )
  return turns


def canonical(messages: Sequence[Message], name: str) -> str:
  """The canonical query of messages.

  Raises:
    BadRow: there is no question in them, the last is no user's, or they cannot be written.
  """
  if len(messages) == 1:
    messages = taken_apart(messages[0].content, name) or messages
  if messages and messages[-1] == Message("assistant", ""):
    messages = messages[:-1]
  if any(message.role == "system" for message in messages[1:]):
    raise BadRow("wrong turns", f"{name} has a system turn that is not the first")
  if not any(message.role == "user" and message.content.strip() for message in messages):
    raise BadRow("empty query", f"{name} has no user turn that is not empty")
  if messages[-1].role == "assistant":
    begun = shown(messages[-1].content.strip())
    raise BadRow("begun answer", f"{name} ends in the assistant's own {begun}; it must ask")
  return render_query([_without_left_end(message) for message in messages])


def with_system(row: RowView, turns: Sequence[Message]) -> tuple[Message, ...]:
  """The turns behind the system turn that a column of the row holds, if one does.

  Raises:
    BadRow: they begin with another.
  """
  text = ""
  for name in SYSTEM:
    value = row.peek(name)
    if isinstance(value, str) and value.strip() and not text:
      text = text_of(row[name], name).strip()
    elif isinstance(value, str) and value.strip() == text:
      row.get(name)
    elif not says_nothing(value):
      raise BadRow("wrong field", f"{name} is {shown(value)}; it must be one text")
  if not text:
    return tuple(turns)
  if turns and turns[0].role == "system":
    if turns[0].content.strip() != text:
      raise BadRow("contradiction", "it has one system turn as a column and another in its turns")
    return tuple(turns)
  return (Message("system", text), *turns)


def response_of(value: Any, name: str, *, behind: Behind = "other") -> str:
  """The canonical response of a text or of messages that begin with the assistant's; maybe blank.

  Of white space at its ends only line breaks go, and one blank before a first word.

  Args:
    behind: what a text goes on behind; behind an open dialogue, with all turns that it holds.

  Raises:
    BadRow: it is neither, or its turns cannot be written in the canonical form.
  """
  if not isinstance(value, str) or not isinstance(listed(value, name), str):
    return response_of_messages(messages_of(value, name), name)
  text = text_of(value, name)
  turns = taken_apart(text, name, is_answer=True)
  if turns:
    return response_of_messages(turns, name)
  text = without_end(text) if behind == "written dialogue" else without_left_end(text)
  text = text.strip("\r\n")
  if behind == "open dialogue":
    # One blank, or a second by mistake, stands before a word; more are the answer's indentation.
    return f" {_BLANKS.sub('', text)}" if text.strip() else " "
  return response_of_messages([Message("assistant", text)], name)


def response_of_messages(messages: Sequence[Message], name: str) -> str:
  """The canonical response of messages.

  Raises:
    BadRow: they begin with a turn that is not the assistant's.
  """
  if not messages or messages[0].role != "assistant":
    raise BadRow("no assistant turn", f"{name} has no assistant message where the answer begins")
  messages = [_without_left_end(message) for message in messages]
  written = render_response(messages)
  text = quote_markers(messages[0].content.strip("\r\n"))
  if re.match(r" \S", text):
    text = text[1:]
  words = text.strip()
  if not words:
    return written
  # The canonical form strips turns; the indentation of an answer's first line is the answer's.
  start, end = text[: text.index(words)], text[text.index(words) + len(words) :]
  return f" {start}{written.strip()}{end if len(messages) == 1 else ''}"


def _turns_of_text(text: str, name: str) -> tuple[Message, ...]:
  """The turns of a prompt; one that neither begins nor ends in HH form is one, whatever it says."""
  try:
    # The marker of the first turn may have lost its line breaks.
    turns = parse_query(f"\n\n{text}")
  except ValueError as error:
    if _OPEN.search(text):
      raise BadRow("turn marker inside a message", f"{name} is a prompt, but {error}") from error
    return (Message("user", text),)
  is_text = turns[0].role == "system" and not any(turn.role == "user" for turn in turns)
  return (Message("user", text),) if is_text and not _OPEN.search(text) else turns


def _behind(value: Any) -> Behind:
  """What a response goes on behind, whose prompt this is."""
  if not isinstance(value, str):
    return "other"
  if _OPEN.search(value):
    return "open dialogue"
  return "other" if take_apart(value) is None else "written dialogue"


def _without_left_end(message: Message) -> Message:
  if message.role != "assistant":
    return message
  return Message(message.role, without_left_end(message.content))


def _with_input(row: RowView, name: str, value: Any) -> Any:
  """An instruction with the text that it is about."""
  if name not in ("instruction", "question", "prompt", "query") or not isinstance(value, str):
    return value
  for about in _ABOUT:
    more = row.peek(about)
    if not isinstance(more, str) or not more.strip() or isinstance(listed(more, about), list):
      continue
    if more.strip() in value:
      row.get(about)
    elif name in ("instruction", "question"):
      value = f"{value}\n\n{text_of(row[about], about)}"
  return value


def _turns_before(row: RowView, name: str) -> tuple[Message, ...]:
  """The turns before the query, from a column of their own: messages, or pairs of texts."""
  for before in _BEFORE:
    value = row.peek(before)
    if before == name or isinstance(listed(value, before), str) or says_nothing(value):
      continue
    value = row[before]
    if name in CONVERSATION:
      raise BadRow("contradiction", f"it has turns in {name} and in {before}")
    value = written_list(value) if isinstance(value, str) else value
    return _pairs(value) or messages_of(value, before)
  return ()


def _pairs(value: Any) -> tuple[Message, ...]:
  """The turns of [[question, answer], …]; none where it is no such list."""
  turns: list[Message] = []
  for pair in value if isinstance(value, list | tuple) else ():
    if not isinstance(pair, list | tuple) or len(pair) != 2:
      return ()
    if not all(isinstance(text, str) for text in pair):
      return ()
    turns += [Message("user", pair[0]), Message("assistant", pair[1])]
  return tuple(turns)
