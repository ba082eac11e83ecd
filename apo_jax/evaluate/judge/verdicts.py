"""The verdict in an LLM's reply, or that there is none."""

import re
from typing import Literal

Verdict = Literal["A", "B", "tie"]

# One word, which may be dressed up, as in "**A**", "[[B]]", "Verdict: tie." or "Response A".
_VERDICT = re.compile(
  r"(?:(?:final )?(?:verdict|answer)\s*(?:is\s*)?:?\s*)?(?:response )?(a|b|tie)", re.IGNORECASE
)
_DRESS = " \t*_`'\"[](){}.!"


def read_verdict(reply: str) -> Verdict | None:
  """The verdict that a reply is, or that its last line is; None where it is no verdict.

  Nothing is guessed from words in between: "A is better than B" is no verdict.
  """
  lines = [line for line in reply.splitlines() if line.strip()]
  if not lines:
    return None
  plain = lines[-1].replace("*", "").replace("[", " ").replace("]", " ")
  found = _VERDICT.fullmatch(" ".join(plain.strip(_DRESS).split()))
  if found is None:
    return None
  word = found[1].lower()
  return "tie" if word == "tie" else "A" if word == "a" else "B"
