"""Dialogues as text: the one form of a query that every source is brought to.

    "\\n\\nSystem: S\\n\\nHuman: A\\n\\nAssistant: B\\n\\nHuman: C\\n\\nAssistant:"

The system turn comes first, where there is one; the text ends where the answer begins. A response
is a space and its text; one that goes on over several turns holds their markers.

A message may say "\\n\\nHuman:" itself. There a character that no text uses stands in the marker,
which is text then; `parse_query` and `parse_response` take it out again.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal

Role = Literal["system", "user", "assistant"]

_MARKERS: dict[Role, str] = {
  "system": "\n\nSystem:",
  "user": "\n\nHuman:",
  "assistant": "\n\nAssistant:",
}
_ROLES = {marker: role for role, marker in _MARKERS.items()}
_TURN = re.compile("|".join(map(re.escape, _ROLES)))

# Of Unicode's private use. A text that has it in a marker of its own gets one more.
_QUOTE = "\ue002"
_NAMES = "|".join(marker.strip() for marker in _ROLES)
_TO_QUOTE = re.compile(rf"(?<=\n\n)(?={_QUOTE}*(?:{_NAMES}))")
_QUOTED = re.compile(rf"(?<=\n\n){_QUOTE}(?={_QUOTE}*(?:{_NAMES}))")

ANSWER = _MARKERS["assistant"]


@dataclasses.dataclass(frozen=True)
class Message:
  """One turn of a dialogue."""

  role: Role
  content: str


def find_marker(text: str) -> str | None:
  """The first marker in a text that opens a turn; those that a message quotes do not."""
  found = _TURN.search(text)
  return found.group() if found else None


def quote_markers(text: str) -> str:
  """The text of one message with every marker in it as text."""
  return _TO_QUOTE.sub(_QUOTE, text)


def unquote_markers(text: str) -> str:
  """The text as people wrote it."""
  return _QUOTED.sub("", text)


def holds_quoted_marker(text: str) -> bool:
  """Whether some message says what would open a turn, which the HH form cannot write."""
  return _QUOTED.search(text) is not None


def render_query(messages: Sequence[Message]) -> str:
  """The dialogue as text that ends in "\\n\\nAssistant:", contents stripped."""
  return _render(messages) + ANSWER


def render_response(messages: Sequence[Message]) -> str:
  """The text that continues a query: of one answer, or of an answer and the turns after it.

  Raises:
    ValueError: the first message is not the assistant's.
  """
  if not messages or messages[0].role != "assistant":
    raise ValueError("a response must begin with an assistant message")
  return _render(messages).removeprefix(ANSWER)


def parse_query(text: str) -> tuple[Message, ...]:
  """The turns of a text that `render_query` made; a text without markers is one user turn.

  Raises:
    ValueError: there is text before the first turn, so that it is nobody's.
  """
  body = text.removesuffix(ANSWER)
  found = list(_TURN.finditer(body))
  if not found:
    return (Message("user", unquote_markers(body.strip())),)
  before = body[: found[0].start()].strip()
  if before:
    raise ValueError(f"the turn marker {found[0].group()!r} comes behind the text {before[:40]!r}")
  ends = [*(turn.start() for turn in found[1:]), len(body)]
  return tuple(
    Message(_ROLES[turn.group()], unquote_markers(body[turn.end() : end].strip()))
    for turn, end in zip(found, ends, strict=True)
  )


def parse_response(text: str) -> tuple[Message, ...]:
  """The turns of a response: the assistant's, and those after it where there are some.

  White space that opens the first answer's first line stays.
  """
  marker = _TURN.search(text)
  if marker is None:
    return (Message("assistant", unquote_markers(answer_text(text))),)
  first = Message("assistant", unquote_markers(answer_text(text[: marker.start()])))
  return (first, *parse_query(text[marker.start() :] + ANSWER))


def answer_text(text: str) -> str:
  """The text of an answer without the space before it and blank lines around it."""
  return re.sub(r"\A\s*\n|\s+\Z", "", text).removeprefix(" ")


def _render(messages: Sequence[Message]) -> str:
  return "".join(
    f"{_MARKERS[message.role]} {quote_markers(message.content.strip())}" for message in messages
  )
