"""The turns of a dialogue, from whatever form a row has them in.

A list of {"role", "content"} or of ShareGPT's {"from", "value"}, contents as a text or as parts of
text; one such object; or such a list as JSON or Python wrote it into a text, as tables of text do.
"""

import ast
import json
from collections.abc import Mapping
from typing import Any

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.dialogue import Message, Role
from apo_jax.data.values import shown, text_of

_ROLES: dict[str, Role] = {
  "system": "system",
  "developer": "system",
  "user": "user",
  "human": "user",
  "prompter": "user",
  "assistant": "assistant",
  "gpt": "assistant",
  "bot": "assistant",
  "model": "assistant",
  "ai": "assistant",
  "chatbot": "assistant",
  "chatgpt": "assistant",
}
_TOOLS = {"tool", "function", "function_call", "function_response", "observation", "ipython"}
_ROLE_KEYS = ("role", "from")
_CONTENT_KEYS = ("content", "value")
# What a message may say beside its text, which no model here reads or writes.
_CALLS = ("tool_calls", "function_call")
_KNOWN_KEYS = {*_ROLE_KEYS, *_CONTENT_KEYS, *_CALLS, "weight", "train"}


def messages_of(value: Any, name: str) -> tuple[Message, ...]:
  """The messages of a list or of one object, white space at the ends of contents included.

  Raises:
    BadRow: it is no such list, a role is unknown, or a message is more than text.
  """
  value = listed(value, name)
  if isinstance(value, Mapping):
    value = [value]
  if not isinstance(value, list | tuple) or not all(isinstance(turn, Mapping) for turn in value):
    raise BadRow("wrong field", f"{name} is {shown(value)}; it must be a text or messages")
  return tuple(_message(turn, name) for turn in value)


def listed(value: Any, name: str) -> Any:
  """The list or message that a text holds as JSON or Python wrote it; anything else as it is.

  A list of texts is taken as one by the caller alone: it may be an answer that is a list.

  Raises:
    BadRow: it begins as a list of messages and cannot be read as one.
  """
  found = written_list(value)
  if found is None:
    if isinstance(value, str) and _looks_like_messages(value):
      raise BadRow(
        "list as text",
        f"{name} is the text {shown(value)}, which was a list of messages and cannot be read back",
      )
    return value
  first = found if isinstance(found, Mapping) else next(iter(found), None)
  is_turn = isinstance(first, Mapping) and _key(first, _ROLE_KEYS) and _key(first, _CONTENT_KEYS)
  return found if is_turn else value


def written_list(value: Any) -> Any:
  """What JSON or Python's `str` of a list or an object of a message wrote, or None."""
  if not isinstance(value, str):
    return None
  text = value.strip()
  if (text[:1], text[-1:]) not in (("[", "]"), ("{", "}")):
    return None
  try:
    found = json.loads(text)
  except (ValueError, RecursionError):
    try:
      found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
      return None
    # Python joins texts that a numpy array writes side by side.
    if repr(found) != text:
      return None
  return found if isinstance(found, list | Mapping) and found else None


def unread_keys(value: Any) -> set[str]:
  """What messages hold beside role and text: thoughts, say, which nothing reads."""
  value = [value] if isinstance(value, Mapping) else value
  if not isinstance(value, list | tuple):
    return set()
  return {
    key
    for turn in value
    if isinstance(turn, Mapping) and _key(turn, _ROLE_KEYS) and _key(turn, _CONTENT_KEYS)
    for key, said in turn.items()
    if said and key not in _KNOWN_KEYS
  }


def is_answer(value: Any) -> bool:
  """Whether it is messages of which the first is the assistant's."""
  turns = [value] if isinstance(value, Mapping) else value
  first = next(iter(turns), None) if isinstance(turns, list | tuple) else None
  return isinstance(first, Mapping) and _role(first) == "assistant"


def _message(turn: Mapping[str, Any], name: str) -> Message:
  role_key, key = _key(turn, _ROLE_KEYS), _key(turn, _CONTENT_KEYS)
  role = _role(turn)
  said = turn.get(role_key) if role_key else None
  if (said is not None and str(said).lower() in _TOOLS) or any(turn.get(call) for call in _CALLS):
    raise BadRow("not text", f"{name} has a tool call or what a tool answered; turns must be text")
  if role is None:
    raise BadRow("wrong turns", f"{name} has a message of the role {said!r}")
  if key is None:
    raise BadRow("missing field", f"{name} has a message without {_CONTENT_KEYS[0]!r}")
  if role == "assistant" and (turn.get("train") is False or turn.get("weight") == 0):
    raise BadRow("unwanted response", f"{name} has an answer that is not to be learned (weight 0)")
  return Message(role, _content(turn[key], f"{name}.{key}"))


def _content(value: Any, name: str) -> str:
  if not isinstance(value, list | tuple):
    return text_of(value, name)
  parts = []
  for part in value:
    if isinstance(part, Mapping) and part.get("type", "text") == "text" and "text" in part:
      parts.append(text_of(part["text"], name))
    elif isinstance(part, Mapping):
      kind = shown(part.get("type", sorted(part)))
      raise BadRow("not text", f"{name} has a part of the type {kind}; it must be text")
    else:
      raise BadRow("wrong field", f"{name} is {shown(value)}; it must be a text or parts of text")
  return "\n".join(parts)


def _role(turn: Mapping[str, Any]) -> Role | None:
  key = _key(turn, _ROLE_KEYS)
  said = turn.get(key) if key else None
  return _ROLES.get(said.strip().lower()) if isinstance(said, str) else None


def _key(turn: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
  return next((name for name in names if turn.get(name) is not None), None)


def _looks_like_messages(text: str) -> bool:
  start = text.lstrip()[:80]
  opens = start.startswith(("[{'", '[{"', "[array("))
  return opens and any(f"{key}'" in start or f'{key}"' in start for key in _ROLE_KEYS)
