"""Texts of strangers on a terminal, in a log or in a sentence: made visible, and short.

A name in a checkpoint, a column of a data set or a sample may hold what moves the cursor, sets a
terminal's title, turns the direction of writing or begins a line that looks like one of ours.
"""

import logging
import re
import unicodedata
from typing import Any

MOST_CHARACTERS = 3000  # of a sentence
LONGEST_WORD = 400  # longer than most paths

# Controls, invisible signs that change how others are shown, halves of characters, line ends.
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
# These join letters and emoji, and nothing else.
_JOINERS = "\u200c\u200d"
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def visible(text: str, most: int = MOST_CHARACTERS, keep: str = "") -> str:
  r"""The text on one line without what cannot be seen, about `most` characters of it.

  Args:
    text: of whoever wrote it.
    most: a longer one loses its middle, so that a sentence keeps its beginning and its end, and so
      does a word of more than LONGEST_WORD.
    keep: characters that stay although they are not seen, such as "\n".

  Returns:
    The text itself where it is short and all of it can be seen; other characters are written as
    "\x1b", "\u202e", "\n".
  """
  text = without_middle(text, most)
  text = _LONG_WORD.sub(lambda found: without_middle(found[0], LONGEST_WORD), text)
  if text.isprintable():
    return text
  written = "".join(one if is_seen(one) or one in keep else _escaped(one) for one in text)
  return without_middle(written, max(most, len(text)))


def visible_lines(text: str) -> str:
  """A text of several lines, each made visible by itself."""
  return "\n".join(map(visible, text.split("\n")))


def is_seen(one: str) -> bool:
  """Whether a character is one that can be seen where it stands, or a space."""
  return one in _JOINERS or unicodedata.category(one) not in _HIDDEN


def without_middle(text: str, most: int) -> str:
  """A text of more than `most` characters with the number of those that are left out."""
  if len(text) <= most:
    return text
  dropped = f"… {len(text) - most:,} characters …"
  return text[: most - most // 2] + dropped + text[len(text) - most // 2 :]


def make_logs_visible() -> None:
  """From now on every message of Python's logging is visible, whoever logs it.

  Lines and tabs stay: libraries write tables and reports of errors.
  """
  make = logging.getLogRecordFactory()
  if getattr(make, "makes_visible", False):
    return

  def make_visible(*args: Any, **options: Any) -> logging.LogRecord:
    record = make(*args, **options)
    try:
      message = record.getMessage()
    except Exception:  # wrong arguments: logging itself says so where it writes the record
      return record
    shown = "\n".join(visible(line, keep="\t") for line in message.split("\n"))
    if shown != message:
      record.msg, record.args = shown, None
    return record

  make_visible.makes_visible = True
  logging.setLogRecordFactory(make_visible)


def _escaped(one: str) -> str:
  return one.encode("unicode_escape").decode("ascii")
