"""Messages written by a Jinja chat template, the same on every day."""

import datetime
from collections.abc import Sequence
from typing import Any

import jinja2
import transformers

from apo_jax.data.dialogue import Message
from apo_jax.data.template_renderer import render_apart

# Some templates write today's date. A run must write the same ids on every day.
DATE = datetime.date(2024, 7, 26)
_DATE_PARTS = ("a", "A", "b", "B", "d", "-d", "e", "j", "m", "-m", "y", "Y")

# What is raised where a template refuses a dialogue: by its own words, or by a slip of its author.
REFUSALS = (jinja2.TemplateError,)


def render(
  tokenizer: transformers.PreTrainedTokenizerBase,
  template: str,
  messages: Sequence[Message],
  *,
  opens_answer: bool,
  thinks: bool = False,
) -> str:
  """The text of a dialogue.

  Args:
    tokenizer: brings the names of special tokens that templates write.
    template: the Jinja text.
    messages: the turns.
    opens_answer: the generation prompt comes behind them.
    thinks: thoughts are asked for, of a template that knows them; a response is the answer alone.

  Raises:
    One of REFUSALS: the template does not take such a dialogue.
    TemplateLimit: it takes too much time, memory or text.
  """
  (found,) = render_all(tokenizer, template, [messages], opens_answer=opens_answer, thinks=thinks)
  if isinstance(found, jinja2.TemplateError):
    raise found
  return found


def render_all(
  tokenizer: transformers.PreTrainedTokenizerBase,
  template: str,
  dialogues: Sequence[Sequence[Message]],
  *,
  opens_answer: bool,
  thinks: bool = False,
) -> list[str | jinja2.TemplateError]:
  """The texts of dialogues, or of each that the template does not take, why; see `render`.

  Raises:
    TemplateLimit: it takes too much time, memory or text.
  """
  variables = {
    **tokenizer.special_tokens_map,
    "add_generation_prompt": opens_answer,
    "enable_thinking": thinks,
    "thinking": thinks,  # as DeepSeek's and Granite's templates call it
  }
  said = [
    [{"role": message.role, "content": message.content} for message in messages]
    for messages in dialogues
  ]
  return render_apart(_with_fixed_date(template), said, variables)


def holds(rendered: str, messages: Sequence[Message]) -> bool:
  """Whether every message is there as it was, in order."""
  place = 0
  for message in messages:
    place = rendered.find(message.content, place)
    if place < 0:
      return False
    place += len(message.content)
  return True


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


def short(said: Any, length: int = 120) -> str:
  """A text on one line, cut to a readable length."""
  text = " ".join(str(said).split())
  return text if len(text) <= length else f"{text[:length]}…"


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
