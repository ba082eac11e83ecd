"""How a query becomes token ids: in HH form as it is, or by the chat template of a tokenizer.

Records hold dialogues in one text form (data/dialogue.py). A chat-tuned model has learned another
one, which its tokenizer brings as a Jinja template (data/chat_form.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import transformers

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import DataConfig
from apo_jax.data.chat_form import ChatForm, make_chat_form
from apo_jax.data.continuations import continuation
from apo_jax.data.dialogue import holds_quoted_marker
from apo_jax.data.rendering import short
from apo_jax.data.tokenizer_limits import told_apart

HH = "hh"


class HhForm(NamedTuple):
  """`<bos> query <separator>`, and responses as they are.

  Attributes:
    tokenizer: reads the text; what ends a response is special to it.
    bos: the id before a query, or None.
    separator: the id behind a query, or None.
    eos: the id that ends a response.
  """

  tokenizer: transformers.PreTrainedTokenizerBase
  bos: int | None
  separator: int | None
  eos: int

  # What stands between a response's text and its end: nothing.
  closing = ""

  @property
  def num_added(self) -> int:
    """The tokens around a query's text."""
    return (self.bos is not None) + (self.separator is not None)

  def query_ids(self, texts: Sequence[str]) -> list[list[int]]:
    """The ids of whole queries."""
    head = [] if self.bos is None else [self.bos]
    tail = [] if self.separator is None else [self.separator]
    return [[*head, *ids, *tail] for ids in self.response_ids(texts)]

  def response_ids(self, texts: Sequence[str]) -> list[list[int]]:
    """The ids of whole responses, without eos."""
    if not texts:
      return []
    # A text may hold the name of a special token: that is text, not the token.
    options = {"add_special_tokens": False, "split_special_tokens": True}
    with told_apart(self.tokenizer):
      return self.tokenizer(list(texts), **options)["input_ids"]

  def continuation_ids(self, ids: Sequence[int], text: str) -> list[int]:
    """The ids of a text that goes on behind the ids of a response."""
    return continuation(self.tokenizer, self.response_ids, [ids, ids[-1:]], text)

  def why_unfit(self, query: str, responses: Sequence[str]) -> str | None:
    """Why a record cannot be written in this form, in a few words, or None.

    The form has no other sign for a turn than its marker.
    """
    quotes = any(holds_quoted_marker(text) for text in (query, *responses))
    return "turn marker inside a message" if quotes else None

  def later_turns_ids(self, query: str, response: str) -> list[int] | None:
    """The ids of a response that goes on over several turns, their markers as text."""
    del query
    return self.response_ids([response])[0]

  def shorter_query_ids(self, text: str, room: int) -> list[int] | None:
    """The ids of a query that is longer than `room`, without its left but for bos."""
    (ids,) = self.query_ids([text])
    head = [] if self.bos is None else [self.bos]
    return [*head, *ids[len(ids) - room + len(head) :]]


Form = HhForm | ChatForm


def find_template(
  tokenizer: transformers.PreTrainedTokenizerBase, chat_template: str
) -> str | None:
  """The Jinja text that `config.data.chat_template` stands for, or None for the HH form.

  Raises:
    ConfigError: it is neither "", "hh", Jinja text nor a file that can be read.
  """
  if chat_template == HH or (not chat_template and not tokenizer.chat_template):
    return None
  if "{{" in chat_template or "{%" in chat_template:
    return chat_template
  try:
    if not chat_template:
      template = tokenizer.get_chat_template()
      if not isinstance(template, str):
        raise ValueError(f"its tokenizer_config.json has {template!r:.100} for one")
      return template
    return Path(chat_template).read_text(encoding="utf-8")
  except (OSError, ValueError) as error:
    raise ConfigError(
      f"config.data.chat_template is {chat_template!r}, which gives no template "
      f"({short(error)}); it must be '' for the tokenizer's own, {HH!r}, a Jinja file or its text."
    ) from error


def make_form(tokenizer: transformers.PreTrainedTokenizerBase, data: DataConfig) -> Form:
  """The form that `data.chat_template` asks for.

  Raises:
    ConfigError: there is no such template or it cannot be used (`make_chat_form`); a separator
      is asked for where a template says what stands between query and response, or it is not one
      token; no token ends a response.
  """
  template = find_template(tokenizer, data.chat_template)
  if template is not None:
    if data.separator:
      raise ConfigError(
        f"config.data.separator is {data.separator!r}; it must be '' with a chat template, which "
        f"says itself what opens a response (config.data.chat_template {HH!r} takes a separator)."
      )
    return make_chat_form(tokenizer, template, data.chat_template)
  if tokenizer.eos_token_id is None:
    raise ConfigError(
      f"The tokenizer {tokenizer.name_or_path!r} has no end-of-sequence token; a response could "
      "not end."
    )
  separator = None
  if data.separator:
    separator = tokenizer.convert_tokens_to_ids(data.separator)
    if separator is None or separator == tokenizer.unk_token_id:
      raise ConfigError(
        f"config.data.separator is {data.separator!r}, which is not one token of the tokenizer."
      )
  return HhForm(tokenizer, tokenizer.bos_token_id, separator, tokenizer.eos_token_id)
