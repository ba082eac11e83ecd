"""Rows of a source that cannot be used, each for one reason of a small fixed set."""

from typing import Literal

Reason = Literal[
  "not UTF-8",
  "not JSON",
  "unknown form",  # of columns that no format knows, or a layout that is not read
  "unread column",  # one that would say something of the query or the answers
  "missing field",
  "wrong field",  # a value of a wrong type
  "wrong scores",  # not one for every response, one not finite, or the chosen one is the lower
  "empty query",
  "empty response",
  "list as text",  # that cannot be read back, or may be an answer
  "not text",  # an image, a tool's call
  "no assistant turn",
  "begun answer",  # a query that ends in the assistant's own words
  "wrong turns",  # an unknown role, or a system turn that is not the first
  "turn marker inside a message",
  "written by a template",  # already, and not to be taken apart
  "sides of different queries",
  "all sides equal",  # the same text, or no two scores that differ
  "contradiction",  # two columns that say opposite things, or a system turn that is two
  "nothing to compare",  # the only response to its query
  "no human preference",  # a golden response against samples
  "unwanted response",  # one that is labelled so
]


class BadRow(Exception):
  """A row that cannot be used: the reason, by which rows are counted, and what is wrong with it."""

  def __init__(self, reason: Reason, problem: str) -> None:
    super().__init__(problem)
    self.reason = reason
