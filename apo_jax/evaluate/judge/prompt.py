"""What an LLM is asked: the query and two responses, in the words of prompt.txt."""

import functools
import string
from pathlib import Path
from typing import NamedTuple

from apo_jax.data.dialogue import unquote_markers

_FILE = Path(__file__).with_name("prompt.txt")


class Comparison(NamedTuple):
  """Two responses to a query; of which one is whose, the judge learns nothing.

  Attributes:
    item_id: the query's.
    query: in the form of data/dialogue.py.
    ours: the response whose wins are counted: our policy's, or the one that people preferred.
    theirs: the other.
  """

  item_id: str
  query: str
  ours: str
  theirs: str

  @property
  def is_same(self) -> bool:
    """Whether both say the same: a tie that nobody has to be asked about."""
    return self.ours.strip() == self.theirs.strip()


def messages(comparison: Comparison, *, ours_first: bool) -> list[dict[str, str]]:
  """The chat messages that ask for a verdict."""
  shown = [unquote_markers(text) for text in (comparison.ours, comparison.theirs)]
  first, second = shown if ours_first else shown[::-1]
  # `Template` puts each text in once: a text that holds "$first" stays as it is.
  content = _template().substitute(
    query=unquote_markers(comparison.query).strip(), first=first.strip(), second=second.strip()
  )
  return [{"role": "user", "content": content}]


@functools.cache
def _template() -> string.Template:
  return string.Template(_FILE.read_text(encoding="utf-8"))
