"""A dialogue that is going on: its turns, and the query that the next answer is to."""

import dataclasses

from apo_jax.data.dialogue import Message, parse_query, render_query


@dataclasses.dataclass
class Dialogue:
  """The turns so far.

  Attributes:
    opens_turns: a marker in an answer opens a turn, as in the HH form, which has no other sign for
      one; else it is text.
    turns: of user and assistant, in order.
  """

  opens_turns: bool
  turns: list[Message] = dataclasses.field(default_factory=list)

  def query(self, system: str, said: str) -> str:
    """The dialogue with a further user turn, as the text that records hold."""
    opening = [Message("system", system)] if system else []
    return render_query([*opening, *self.turns, Message("user", said)])

  def add(self, said: str, answer: str) -> None:
    """Keeps a user turn and its answer."""
    self.turns = [*self.turns, Message("user", said), Message("assistant", answer)]
    if self.opens_turns and answer.strip():
      whole = render_query(self.turns[:-1])
      self.turns = list(parse_query(f"{whole} {answer}"))
