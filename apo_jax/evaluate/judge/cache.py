"""A judge's answers by the content of what it was asked, so that nothing is paid for twice.

A line is an answer: its key, a hash of all that was sent and of the number of the repeat; what the
judge replied; and the tokens that it took. Lines are added as answers come, so whoever stops the
command keeps them; a last line that was torn is passed over.
"""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import json_line


class Reply(NamedTuple):
  """What a judge replied, and the tokens of the question and the reply, 0 where it does not say."""

  text: str
  tokens: int


def key_of(
  model: str,
  url: str,
  temperature: float,
  messages: Sequence[Mapping[str, str]],
  repeat: int,
  attempt: int,
) -> str:
  """The hash of a question: the model and where it is, the whole text, how often it was asked."""
  asked = [model, url.rstrip("/"), temperature, list(messages), repeat, attempt]
  return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


class Cache:
  """The answers in a file, which is made with the first; several threads may use it.

  Raises:
    ConfigError: the file cannot be read or written.
  """

  def __init__(self, path: Path):
    self.path = path
    self._lock = threading.Lock()
    self._replies: dict[str, Reply] = {}
    try:
      content = path.read_bytes() if path.exists() else b""
    except OSError as error:
      raise self._error(error) from error
    for line in content.split(b"\n"):
      try:
        row = json.loads(line)
        self._replies[row["key"]] = Reply(row["reply"], row["tokens"])
      except (ValueError, KeyError, TypeError):
        continue  # a torn line; what it said is asked again
    self._is_torn = bool(content) and not content.endswith(b"\n")

  def get(self, key: str) -> Reply | None:
    """The answer to a question, if it is known."""
    return self._replies.get(key)

  def put(self, key: str, reply: Reply, about: Mapping[str, Any]) -> None:
    """Keeps an answer; `about` is written beside it, for people."""
    line = json_line({"key": key, **about, "reply": reply.text, "tokens": reply.tokens}) + "\n"
    with self._lock:
      self._replies[key] = reply
      try:
        with self.path.open("ab") as file:
          file.write(("\n" * self._is_torn + line).encode("utf-8", errors="backslashreplace"))
      except OSError as error:
        raise self._error(error) from error
      self._is_torn = False

  def _error(self, error: OSError) -> ConfigError:
    return ConfigError(f"The judge's answers are kept in {self.path}, which fails: {error}.")
