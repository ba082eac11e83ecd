"""A dialogue that is going on: its turns, and the query that the next answer is to."""

import dataclasses

from apo_jax.data.dialogue import Message, parse_query, render_query


@dataclasses.dataclass
class Dialogue:
  """The turns so far.

  Attributes:
    turns: of user and assistant, in order.
  """

  turns: list[Message] = dataclasses.field(default_factory=list)

  def query(self, system: str, said: str) -> str:
    """The dialogue with a further user turn, as the text that records hold."""
    opening = [Message("system", system)] if system else []
    return render_query([*opening, *self.turns, Message("user", said)])

  def add(self, said: str, answer: str) -> None:
    """Keeps a user turn and its answer.

    What an answer opens by a marker is a turn, as in training.
    """
    if not answer.strip():
      self.turns += [Message("user", said), Message("assistant", "")]
      return
    whole = render_query([*self.turns, Message("user", said)]) + answer
    self.turns = list(parse_query(whole))
