"""Rows of a source that cannot be used, each for one reason of a small fixed set."""

from typing import Literal

Reason = Literal[
  "not UTF-8",
  "not JSON",
  "missing field",
  "wrong field",  # a value of a wrong type
  "wrong scores",  # not one for every response, one not finite, or the chosen one is the lower
  "empty query",
  "empty response",
  "no assistant turn",
  "wrong turns",  # an unknown role, or a system turn that is not the first
  "turn marker inside a message",
  "written by a template",  # already, and not to be taken apart
  "sides of different queries",
  "all sides equal",  # the same text, or no two scores that differ
  "no human preference",  # a golden response against samples
  "unwanted response",  # one that is labelled false
]


class BadRow(Exception):
  """A row that cannot be used: the reason, by which rows are counted, and what is wrong with it."""

  def __init__(self, reason: Reason, problem: str) -> None:
    super().__init__(problem)
    self.reason = reason
