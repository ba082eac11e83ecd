"""The check of a chat template on dialogues of the data, made before anything is trained.

A run reads a dialogue as query ids, response ids and the end. They must be the ids that the
template's own rendering of the whole dialogue has.
"""

from collections.abc import Sequence
from typing import NamedTuple

from apo_jax.data.records import Demonstration, GameData, Preference, Query
from apo_jax.data.tokens import Codec

Record = Query | Demonstration | Preference


class TemplateCheck(NamedTuple):
  """What was compared.

  Attributes:
    compared: how many dialogues.
    at_border: how many of them differ in the tokens at the border of query and response alone.
  """

  compared: int
  at_border: int

  def sentence(self) -> str:
    """The result on one line."""
    raise NotImplementedError


def choose_records(data: GameData) -> tuple[Record, ...]:
  """A few dozen records that differ in their turns, their white space and the names they hold."""
  raise NotImplementedError


def check_template(codec: Codec, records: Sequence[Record]) -> TemplateCheck:
  """Compares query, response and end with the template's own rendering of whole dialogues.

  Args:
    codec: of the run; under the HH form nothing is compared.
    records: of the data, as `choose_records` gives them; small dialogues of our own come beside.

  Raises:
    ConfigError: some ids differ; the message shows the two side by side.
  """
  raise NotImplementedError
