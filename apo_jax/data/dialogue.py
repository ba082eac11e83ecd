"""Dialogues as text: the one form of a query that every source is brought to.

    "\\n\\nSystem: S\\n\\nHuman: A\\n\\nAssistant: B\\n\\nHuman: C\\n\\nAssistant:"

The system turn comes first, where there is one; the text ends where the answer begins. A response
is a space and its text; one that goes on over several turns holds their markers.
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

ANSWER = _MARKERS["assistant"]


@dataclasses.dataclass(frozen=True)
class Message:
  """One turn of a dialogue."""

  role: Role
  content: str


def find_marker(text: str) -> str | None:
  """The first turn marker in a text, which no single message may hold."""
  found = _TURN.search(text)
  return found.group() if found else None


def render_query(messages: Sequence[Message]) -> str:
  """The dialogue as text that ends in "\\n\\nAssistant:", contents stripped.

  Raises:
    ValueError: a content holds the marker of a turn, which would read as another turn.
  """
  return _render(messages) + ANSWER


def render_response(messages: Sequence[Message]) -> str:
  """The text that continues a query: of one answer, or of an answer and the turns after it.

  Raises:
    ValueError: the first message is not the assistant's, or a content holds the marker of a turn.
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
    return (Message("user", body.strip()),)
  before = body[: found[0].start()].strip()
  if before:
    raise ValueError(f"the turn marker {found[0].group()!r} comes behind the text {before[:40]!r}")
  ends = [*(turn.start() for turn in found[1:]), len(body)]
  return tuple(
    Message(_ROLES[turn.group()], body[turn.end() : end].strip())
    for turn, end in zip(found, ends, strict=True)
  )


def _render(messages: Sequence[Message]) -> str:
  turns = []
  for message in messages:
    content = message.content.strip()
    marker = find_marker(content)
    if marker:
      raise ValueError(f"a message holds the turn marker {marker!r}")
    turns.append(f"{_MARKERS[message.role]} {content}")
  return "".join(turns)
