"""The columns of a row: what they are called, which were read, and which must not go unread.

Names are compared in small letters, "-" as "_": `Chosen-Rating` is `chosen_rating`.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

# Where a row has several of one list, the first that says something is read.
CONVERSATION = ("messages", "conversations", "conversation", "dialogue", "dialog", "trajectory")
TEXTS = ("query", "prompt", "instruction", "question", "post", "input", "context", "history")
QUERY = (*CONVERSATION, *TEXTS)
RESPONSE = ("response", "completion", "output", "answer")
SYSTEM = ("system", "system_prompt", "system_message")
LABELS = ("label", "kto_tag", "is_safe", "is_correct", "is_good", "is_preferred", "thumbs_up")
SCORES = ("helpfulness", "overall_score", "score", "rating", "reward", "pm_score", "quality")
RANKS = ("rank", "ranking")
IDS = ("query_id", "prompt_id", "id")

# What a column would say of the row: something of the query, or of which answer is wanted.
Part = Literal["query", "answers"]

_OF_QUERIES = {
  *SYSTEM, *CONVERSATION, "input", "context", "history", "background", "passage", "document",
  "documents", "tools", "functions", "image", "images", "audio", "audios", "video", "videos",
  "few_shot", "persona",
}  # fmt: skip
_OF_ANSWERS = {
  *LABELS, *SCORES, *RANKS, "labels", "scores", "ratings", "rewards", "ranks", "preference",
  "preferred", "winner", "better", "verdict", "feedback_score",
}  # fmt: skip
# The last word of a longer name: `chat_history`, `human_label`, `rm_score`.
_LAST_OF_QUERIES = {"history", "context", "images", "tools"}
_LAST_OF_ANSWERS = {
  "label", "labels", "score", "scores", "rating", "ratings", "reward", "rewards", "rank", "ranks",
  "ranking", "preference", "winner",
}  # fmt: skip

# What tells rows apart or says where they are from; any other column may be a query.
_HARMLESS = {
  "id", "uuid", "idx", "index", "source", "split", "lang", "language", "model", "models", "url",
  "timestamp", "date", "dataset", "datasplit", "subset", "category", "categories", "task", "domain",
  "topic", "tags", "author", "license", "metadata", "generator", "hash", "type", "turns", "turn",
  "judge", "created", "version", "config", "chosen_model", "rejected_model", "annotator",
}  # fmt: skip
_LAST_OF_HARMLESS = {"id", "idx", "index", "model", "source", "url", "date", "length", "tokens",
                     "hash", "sha256", "category", "language", "type", "name"}  # fmt: skip


@functools.lru_cache(maxsize=4096)
def plain_name(name: str) -> str:
  """A column's name as the tables have it."""
  return str(name).strip().lower().replace("-", "_")


@functools.lru_cache(maxsize=4096)
def part_of(name: str) -> Part | None:
  """What a column of this plain name would say, by all that is usual; None if nothing."""
  last = name.rpartition("_")[2]
  if name in _OF_QUERIES or name.startswith("system_") or last in _LAST_OF_QUERIES:
    return "query"
  if name in _OF_ANSWERS or last in _LAST_OF_ANSWERS:
    return "answers"
  return None


def is_harmless(name: str) -> bool:
  """Whether a column of this plain name only tells rows apart or says where they are from."""
  return name in _HARMLESS or name.rpartition("_")[2] in _LAST_OF_HARMLESS


def says_nothing(value: Any) -> bool:
  """Whether a value is none, or empty: a table writes so what a row does not have."""
  return value is None or (isinstance(value, str | list | tuple | Mapping) and not value)


class RowView(Mapping[str, Any]):
  """A row by its plain names, which keeps in mind what was read of it.

  Of two columns whose plain names are equal, the first is meant.
  """

  def __init__(self, row: Mapping[str, Any]) -> None:
    self._row = row
    self._own: dict[str, str] = {}
    for name in row:
      self._own.setdefault(plain_name(name), name)
    self._read: dict[str, None] = {}

  def __getitem__(self, name: str) -> Any:
    value = self._row[self._own[name]]
    self._read[name] = None
    return value

  def __contains__(self, name: object) -> bool:
    return name in self._own

  def __iter__(self) -> Iterator[str]:
    return iter(self._own)

  def __len__(self) -> int:
    return len(self._own)

  def peek(self, name: str) -> Any:
    """The value of a plain name, or None; it does not count as read."""
    return self._row[self._own[name]] if name in self._own else None

  def own_name(self, name: str) -> str:
    """The name as the row has it."""
    return self._own[name]

  @functools.cached_property
  def said(self) -> tuple[str, ...]:
    """The plain names of the columns that say something."""
    return tuple(name for name in self._own if not says_nothing(self.peek(name)))

  @property
  def read(self) -> tuple[str, ...]:
    """The plain names of the columns that were read and say something."""
    return tuple(name for name in self._read if not says_nothing(self.peek(name)))

  @property
  def unread(self) -> tuple[str, ...]:
    """The plain names of the columns that say something and were not read."""
    return tuple(name for name in self.said if name not in self._read)
