"""How a query becomes token ids: in HH form as it is, or by the chat template of a tokenizer.

Records hold dialogues in one text form (data/dialogue.py). A chat-tuned model has learned another
one, which its tokenizer brings as a Jinja template: then the query is read as messages, the
template writes them and opens the answer, and its end-of-turn token ends a response.
"""

import copy
import datetime
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import tokenizers
import transformers

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import DataConfig
from apo_jax.data.dialogue import Message, parse_query, render_query
from apo_jax.data.special_tokens import (
  make_special,
  special_ids,
  special_names,
  written_around_turns,
)

HH = "hh"

# Some templates write today's date. A run must write the same ids on every day.
DATE = datetime.date(2024, 7, 26)
_DATE_PARTS = ("a", "A", "b", "B", "d", "-d", "e", "j", "m", "-m", "y", "Y")

# Behind the first character of a special token's name in a message. It is a token of its own, so
# the tokenizer reads what stands before and after it as text; its id is taken out afterwards.
_MARK = "\ue000\ue001"

# What a template may raise when it refuses a dialogue: its own words, or a slip of its author.
_REFUSALS = (
  jinja2.TemplateError,
  ArithmeticError,
  AttributeError,
  LookupError,
  TypeError,
  ValueError,
)

_SYSTEM = Message("system", "Kelp  Grows: be brief.")
_QUESTION = Message("user", "Is Basalt  old?\n\nSay 1 word.")
_ANSWER = Message("assistant", "Yes: Basalt  is.\n\nQuite old.")
_NEXT_QUESTION = Message("user", "And  Chalk?")


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
    return self.tokenizer(list(texts), **options)["input_ids"]

  def continuation_ids(self, ids: Sequence[int], text: str) -> list[int]:
    """The ids of a text that goes on behind the ids of a response."""
    return _continuation(self.tokenizer, self.response_ids, [ids, ids[-1:]], text)


class ChatForm(NamedTuple):
  """Queries as a chat template writes them.

  Attributes:
    tokenizer: a copy that knows the mark; all that the template writes around turns is special.
    template: the Jinja text.
    bos: the id that the template writes first, or None where it does not begin with bos.
    eos: the id that ends a response: the end-of-turn token the template writes there.
    opening: white space the template writes between the opened turn and an answer's text.
    lead: the opened turn's last words, behind which answers are tokenised.
    folds_system: the template knows no system turn; its text opens the first user turn instead.
    special_names: finds the first character of each name of a special token.
  """

  tokenizer: transformers.PreTrainedTokenizerBase
  template: str
  bos: int | None
  eos: int
  opening: str
  lead: str
  folds_system: bool
  special_names: re.Pattern[str]

  @property
  def num_added(self) -> int:
    """The tokens around the text of a query of one turn."""
    (ids,) = self.query_ids([render_query([Message("user", "a")])])
    return len(ids) - 1

  def query_ids(self, texts: Sequence[str]) -> list[list[int]]:
    """The ids of whole queries, the assistant's turn opened.

    Raises:
      ConfigError: the template refuses a dialogue.
    """
    if not texts:
      return []
    # The template writes bos where there is one.
    return self._ids([self._write(text) for text in texts])

  def response_ids(self, texts: Sequence[str]) -> list[list[int]]:
    """The ids of whole responses as they follow a query, without eos.

    Some tokenizers put a blank before a first word, which an answer behind the opened turn has
    not. So it is tokenised behind the turn's last words, unless a token would cross the border.
    """
    if not texts:
      return []
    stripped = [self._as_text(text.lstrip()) for text in texts]
    answers = [self.opening + text if text else "" for text in stripped]
    (lead,) = self._ids([self.lead])
    behind = self._ids([self.lead + answer for answer in answers])
    return [
      ids[len(lead) :] if ids[: len(lead)] == lead else self._ids([answer])[0]
      for ids, answer in zip(behind, answers, strict=True)
    ]

  def continuation_ids(self, ids: Sequence[int], text: str) -> list[int]:
    """The ids of a text that goes on behind the ids of a response."""
    (lead,) = self._ids([self.lead])

    def read(texts: Sequence[str]) -> list[list[int]]:
      return self._ids([self._as_text(text) for text in texts])

    return _continuation(self.tokenizer, read, [[*lead, *ids], ids[-1:]], text)

  def _ids(self, texts: Sequence[str]) -> list[list[int]]:
    mark = self.tokenizer.convert_tokens_to_ids(_MARK)
    ids = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [[token for token in row if token != mark] for row in ids]

  def _write(self, text: str) -> str:
    messages = [
      Message(message.role, self._as_text(message.content)) for message in parse_query(text)
    ]
    if self.folds_system:
      messages = fold_system(messages)
    try:
      return _render(self.tokenizer, self.template, messages)
    except _REFUSALS:
      try:
        return _render(self.tokenizer, self.template, alternating(messages))
      except _REFUSALS as error:
        raise ConfigError(
          f"config.data.chat_template refuses the query {_short(text)!r} ({_short(error)}); give "
          f"a template that takes it, or {HH!r}."
        ) from error

  def _as_text(self, content: str) -> str:
    """The content with every name of a special token broken, also where names overlap."""
    return self.special_names.sub(rf"\1{_MARK}", content)


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
      return tokenizer.get_chat_template()
    return Path(chat_template).read_text(encoding="utf-8")
  except (OSError, ValueError) as error:
    raise ConfigError(
      f"config.data.chat_template is {chat_template!r}, which gives no template "
      f"({_short(error)}); it must be '' for the tokenizer's own, {HH!r}, a Jinja file or its text."
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


def make_chat_form(
  tokenizer: transformers.PreTrainedTokenizerBase, template: str, chat_template: str
) -> ChatForm:
  """The form of a chat template, tried out on a small dialogue.

  Args:
    tokenizer: is copied, not changed.
    template: the Jinja text.
    chat_template: the config's field that stands for it, for errors.

  Raises:
    ConfigError: the template cannot be read, refuses a dialogue of two turns, or leaves out or
      changes what was said; or nothing ends a response.
  """
  named = f"config.data.chat_template is {_short(chat_template)!r}; the template it stands for"
  template = _with_fixed_date(template)
  marked = copy.deepcopy(tokenizer)
  mark = tokenizers.AddedToken(_MARK, special=True, normalized=False)
  marked.add_tokens([mark], special_tokens=True)
  dialogue = [_QUESTION, _ANSWER, _NEXT_QUESTION]
  try:
    opened = _render(marked, template, dialogue[:1])
    whole = _render(marked, template, dialogue)
  except _REFUSALS as error:
    raise ConfigError(
      f"{named} refuses a dialogue of two turns ({_short(error)}); give another, or {HH!r}."
    ) from error
  if not _holds(whole, dialogue):
    raise ConfigError(
      f"{named} leaves out or changes the text of earlier turns; give one that keeps it, or {HH!r}."
    )
  make_special(marked, written_around_turns(marked, whole, dialogue))
  names = special_names(marked)
  before, behind = whole.split(_ANSWER.content, 1)
  gap = before[len(opened) :] if before.startswith(opened) else ""
  ids = marked(opened, add_special_tokens=False)["input_ids"]
  end = marked(behind.lstrip(), add_special_tokens=False)["input_ids"][:1]
  ends_turn = end and end[0] in special_ids(marked)
  eos = end[0] if ends_turn else marked.eos_token_id
  if eos is None:
    raise ConfigError(
      f"{named} writes no special token behind a response, and the tokenizer has no "
      "end-of-sequence token; a response could not end."
    )
  every_name = "|".join(map(re.escape, sorted(names)))
  return ChatForm(
    tokenizer=marked,
    template=template,
    bos=marked.bos_token_id if ids[:1] == [marked.bos_token_id] else None,
    eos=eos,
    opening=gap if gap.isspace() else "",
    lead=_last_words(opened, names),
    folds_system=not _knows_system(marked, template, dialogue),
    special_names=re.compile(f"(?={every_name})(.)", re.DOTALL),
  )


def fold_system(messages: Sequence[Message]) -> list[Message]:
  """The dialogue with its system turn, if any, as the opening of the first user turn."""
  if not messages or messages[0].role != "system":
    return list(messages)
  system, *rest = messages
  if rest and rest[0].role == "user":
    return [Message("user", f"{system.content}\n\n{rest[0].content}"), *rest[1:]]
  return [Message("user", system.content), *rest]


def alternating(messages: Sequence[Message]) -> list[Message]:
  """The dialogue as strict templates want it: it begins with a user, and then roles take turns.

  Answers before the first question are left out; neighbours of one role become one message.
  """
  kept: list[Message] = []
  for message in messages:
    if kept and kept[-1].role == message.role:
      kept[-1] = Message(message.role, f"{kept[-1].content}\n\n{message.content}")
    elif message.role != "assistant" or any(one.role == "user" for one in kept):
      kept.append(message)
  return kept


def _render(
  tokenizer: transformers.PreTrainedTokenizerBase, template: str, messages: Sequence[Message]
) -> str:
  return tokenizer.apply_chat_template(
    [{"role": message.role, "content": message.content} for message in messages],
    chat_template=template,
    add_generation_prompt=True,
    tokenize=False,
    enable_thinking=False,  # where the template knows it; a response is the answer alone
  )


def _holds(rendered: str, messages: Sequence[Message]) -> bool:
  """Whether every message is there as it was, in order."""
  place = 0
  for message in messages:
    place = rendered.find(message.content, place)
    if place < 0:
      return False
    place += len(message.content)
  return True


def _knows_system(
  tokenizer: transformers.PreTrainedTokenizerBase, template: str, dialogue: Sequence[Message]
) -> bool:
  """Whether a system turn is written at all; some templates put it before the last question."""
  try:
    rendered = _render(tokenizer, template, [_SYSTEM, *dialogue])
  except _REFUSALS:
    return False
  return _holds(rendered, [_SYSTEM]) and _holds(rendered, dialogue)


def _last_words(opened: str, names: set[str]) -> str:
  """What stands behind the last special token and line break of a text that ends in words."""
  behind = re.split("|".join(map(re.escape, names)) or "$", opened)[-1]
  return behind[behind.rstrip().rfind("\n") + 1 :]


def _continuation(
  tokenizer: transformers.PreTrainedTokenizerBase,
  read: Callable[[Sequence[str]], list[list[int]]],
  heads: Sequence[Sequence[int]],
  text: str,
) -> list[int]:
  """The ids of a text behind the first of the heads that keeps its own ids there, or alone."""
  for head in heads:
    before = tokenizer.decode(head, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    (ids,) = read([before + text])
    if ids[: len(head)] == list(head):
      return ids[len(head) :]
  return read([text])[0]


def _with_fixed_date(template: str) -> str:
  """The template with its clock, `strftime_now`, standing at `DATE`."""
  if "strftime_now" not in template:
    return template
  parts = "".join(f"|replace('%{part}','{DATE.strftime('%' + part)}')" for part in _DATE_PARTS)
  # A macro hides the global of its name. The empty expression keeps the template's first newline,
  # which would be dropped behind a block.
  return (
    f"{{% macro strftime_now(format) %}}{{{{ format{parts} }}}}{{% endmacro %}}{{{{ '' }}}}"
    + (template)
  )


def _short(said: Any, length: int = 120) -> str:
  text = " ".join(str(said).split())
  return text if len(text) <= length else f"{text[:length]}…"
