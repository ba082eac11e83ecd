"""What a chat template writes between a question and its answer, and behind the answer.

Two renderings say it: the question with the generation prompt, behind which a model samples, and
the whole dialogue. Where they disagree, the whole dialogue counts, as it is what query, answer and
end must be together; the template is given a generation prompt that says so. Only where the prompt
switches thoughts off, by an empty thought that whole dialogues do not show, the prompt counts:
models are served with it, and an answer may follow.
"""

import json
import re
from typing import NamedTuple

import transformers

from apo_jax.data.dialogue import Message
from apo_jax.data.rendering import holds, render

SYSTEM = Message("system", "Kelp  Grows: be brief.")
DIALOGUE = (
  Message("user", "Is Basalt  old?\n\nSay 1 word."),
  Message("assistant", "Yes: Basalt  is.\n\nQuite old."),
  Message("user", "And  Chalk?"),
)
ANSWER = Message("assistant", "Chalk: it  Is.\n\nTo be sure.")

_CLOSED_THOUGHT = re.compile(r"\s*(?:<think>\s*)?</think>\s*")
_OPENS = "opens_answer_of_apo_jax"


class UnusableTemplate(ValueError):
  """A template that a run cannot use; the text says why."""


class Opening(NamedTuple):
  """How a template opens and closes an answer.

  Attributes:
    template: the Jinja text, whose generation prompt is what a whole dialogue has there.
    opened: the dialogue of DIALOGUE with that prompt.
    whole: DIALOGUE and ANSWER.
    gap: white space between the prompt and an answer.
    behind: all that follows the last answer.
    thought: what the prompt has to switch thoughts off, and whole dialogues have not.
  """

  template: str
  opened: str
  whole: str
  gap: str
  behind: str
  thought: str


def find_opening(tokenizer: transformers.PreTrainedTokenizerBase, template: str) -> Opening:
  """The opening of a template, tried out on a small dialogue.

  Raises:
    UnusableTemplate: it leaves out or changes what was said, or nothing constant opens an answer.
    One of rendering.REFUSALS: it refuses the dialogue.
  """
  opened = render(tokenizer, template, DIALOGUE, opens_answer=True)
  whole = render(tokenizer, template, [*DIALOGUE, ANSWER], opens_answer=False)
  if not holds(whole, [*DIALOGUE, ANSWER]) or not holds(opened, DIALOGUE):
    raise UnusableTemplate(
      "leaves out or changes the text of earlier turns; give one that keeps it"
    )
  before, behind = whole.rsplit(ANSWER.content, 1)
  gap = before.removeprefix(opened)
  if before.startswith(opened) and not gap.strip():
    return Opening(template, opened, whole, gap, behind, "")
  thought = opened.removeprefix(before.rstrip())
  if opened.startswith(before.rstrip()) and _switches_off(tokenizer, template, opened, thought):
    return Opening(template, opened, whole, "", behind, thought)
  # A blank before an answer is its first token's in most tokenizers.
  prompt = before.rstrip(" ")
  mended = _with_prompt(template, _constant_prompt(tokenizer, template, prompt))
  opened = render(tokenizer, mended, DIALOGUE, opens_answer=True)
  return Opening(mended, opened, whole, before[len(prompt) :], behind, "")


def _switches_off(
  tokenizer: transformers.PreTrainedTokenizerBase, template: str, opened: str, rest: str
) -> bool:
  """Whether what only the prompt has is nothing but the sign that thoughts are off."""
  if not rest.strip():
    return False
  thinking = render(tokenizer, template, DIALOGUE, opens_answer=True, thinks=True)
  return bool(_CLOSED_THOUGHT.fullmatch(rest)) or _end(thinking) != _end(opened)


def _constant_prompt(
  tokenizer: transformers.PreTrainedTokenizerBase, template: str, before: str
) -> str:
  """What stands between a dialogue and the answer to it, the same in another dialogue.

  Args:
    before: the whole of DIALOGUE and ANSWER up to the answer's text.
  """
  closed = render(tokenizer, template, DIALOGUE, opens_answer=False)
  other = [DIALOGUE[-1], ANSWER]
  other_before = render(tokenizer, template, other, opens_answer=False).rsplit(ANSWER.content, 1)[0]
  other_closed = render(tokenizer, template, other[:1], opens_answer=False)
  prompt = before.removeprefix(closed)
  if not before.startswith(closed) or other_before.rstrip(" ") != other_closed + prompt:
    raise UnusableTemplate(
      f"writes {_end(before)!r} before an answer in a whole dialogue, and the generation prompt "
      f"{_end(render(tokenizer, template, DIALOGUE, opens_answer=True))!r}; give one in which both "
      "are the same"
    )
  return prompt


def _end(text: str) -> str:
  """What stands behind the last question."""
  return text.rpartition(DIALOGUE[-1].content)[2]


def _with_prompt(template: str, prompt: str) -> str:
  """The template with a generation prompt in place of its own.

  Only expressions stand beside the template's text, and what is set is set inside one line: blocks
  would take line breaks of the template with them.
  """
  text = template.removesuffix("\n")  # as Jinja drops it at a template's end
  return (
    f"{{% set {_OPENS} = add_generation_prompt %}}{{% set add_generation_prompt = false %}}"
    f"{{{{ '' }}}}{text}"
    f"{{{{ {json.dumps(prompt, ensure_ascii=False)} if {_OPENS} else '' }}}}"
  )
