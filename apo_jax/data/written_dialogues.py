"""Dialogues that a chat template has written before they came here, taken apart again.

Data sets hold prompts such as "<|im_start|>user\nName a sea.<|im_end|>\n<|im_start|>assistant\n".
Read as one message they would be a template inside a template. `DIALECTS` has the turns of the
families in use, as their models' published templates write them. A text is one of them only where
it begins as such a dialogue does: what merely names a token is text.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from apo_jax.data.dialogue import Message, Role

_ROLES: dict[str, Role] = {
  **dict.fromkeys(("system", "developer", "system_prompt"), "system"),
  **dict.fromkeys(("user", "human", "instruction", "inst", "prompter"), "user"),
  **dict.fromkeys(
    ("assistant", "model", "response", "/inst", "gpt", "bot", "chatbot"), "assistant"
  ),
}

# What stands before a dialogue, and what may be left behind its last answer.
_STARTS = (
  "<|begin_of_text|>",
  "<|startoftext|>",
  "<|endoftext|>",
  "<｜begin▁of▁sentence｜>",
  "<|begin▁of▁sentence|>",
  "<BOS_TOKEN>",
  "[gMASK]",
  "<sop>",
  "<bos>",
  "<s>",
)
_ENDS = (
  "<|im_end|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|eot|>",
  "<|end|>",
  "<|return|>",
  "<|end_of_turn|>",
  "<|endofturn|>",
  "<|end_of_text|>",
  "<|endoftext|>",
  "<|END_OF_TURN_TOKEN|>",
  "<｜end▁of▁sentence｜>",
  "<|end▁of▁sentence|>",
  "<|endofprompt|>",
  "<end_of_turn>",
  "<turn|>",
  "[|endofturn|]",
  "<EOT>",
  "<eos>",
  "</s>",
)


class Dialect(NamedTuple):
  """How a family writes turns.

  Attributes:
    name: of the family.
    opening: finds what opens a turn; its group is the role.
    ends: what closes a turn, of which the last may have none; empty where the next opens instead.
    is_text: no special tokens, so that only a text that also ends as one is such a dialogue.
    before: what may stand before the first turn.
  """

  name: str
  opening: re.Pattern[str]
  ends: tuple[str, ...] = ()
  is_text: bool = False
  before: re.Pattern[str] = re.compile("")


def _dialect(
  name: str, opening: str, *ends: str, is_text: bool = False, before: str = ""
) -> Dialect:
  return Dialect(name, re.compile(opening), ends, is_text, re.compile(before))


_CHAT = r"(?P<role>system|user|assistant|developer)"
_ALPACA = (
  r"(?:Below is an instruction that describes a task[^\n]*"
  r"Write a response that appropriately completes the request\.)?"
)
_VICUNA = (
  r"(?:A chat between a curious (?:user|human) and an artificial intelligence assistant\."
  r"[^\n]*?(?=\s*USER:))?"
)

DIALECTS: tuple[Dialect, ...] = (
  _dialect("ChatML", rf"<\|im_start\|>{_CHAT}(?:\n|<\|im_sep\|>|\Z)", "<|im_end|>"),
  _dialect("Llama 3", rf"<\|start_header_id\|>{_CHAT}<\|end_header_id\|>\n*", "<|eot_id|>"),
  _dialect("Llama 4", rf"<\|header_start\|>{_CHAT}<\|header_end\|>\n*", "<|eot|>"),
  _dialect("Gemma", r"<start_of_turn>(?P<role>user|model|system)(?:\n|\Z)", "<end_of_turn>"),
  _dialect("Gemma 4", r"<\|turn>(?P<role>user|model|system)(?:\n|\Z)", "<turn|>"),
  _dialect("Granite", rf"<\|start_of_role\|>{_CHAT}<\|end_of_role\|>", "<|end_of_text|>"),
  _dialect(
    "gpt-oss",
    rf"<\|start\|>{_CHAT}(?:<\|channel\|>final)?(?:<\|message\|>|\Z)",
    "<|end|>",
    "<|return|>",
  ),
  _dialect(
    "Command R",
    r"<\|START_OF_TURN_TOKEN\|><\|(?P<role>SYSTEM|USER|CHATBOT)_TOKEN\|>",
    "<|END_OF_TURN_TOKEN|>",
  ),
  _dialect("DeepSeek", r"<[｜|](?P<role>User|Assistant)[｜|]>\n?"),
  _dialect("EXAONE", r"\[\|(?P<role>system|user|assistant)\|\]"),
  # Zephyr, Phi 3, OLMo, Tulu, Falcon 3, GLM 4: the same openings, other ends or none.
  _dialect("Zephyr", rf"<\|{_CHAT}\|>(?:\n|(?=\S))?"),
  _dialect("Llama 2 or Mistral", r"(?:<s>)?\s?\[(?P<role>/?INST|/?SYSTEM_PROMPT)\]\s?"),
  _dialect("OpenChat", r"(?P<role>GPT4 Correct User|GPT4 Correct Assistant): ?", "<|end_of_turn|>"),
  _dialect(
    "Alpaca",
    r"\n*### (?P<role>Instruction|Response|Human|Assistant|User|System):[ \n]*",
    is_text=True,
    before=_ALPACA,
  ),
  _dialect(
    "Vicuna",
    r"(?:\A|\s+|(?<=</s>))(?P<role>USER|ASSISTANT):[ ]?",
    is_text=True,
    before=_VICUNA,
  ),
)

_LLAMA_2_SYSTEM = re.compile(r"\A\s*<<SYS>>\n?(.*?)\n?<</SYS>>\s*", re.DOTALL)
# Llama 3's own template writes these lines into every system turn, and would again.
_LLAMA_3_DATE = re.compile(r"\A(?:Cutting Knowledge Date: [^\n]*\n)?Today Date: [^\n]*\n+")
_EMPTY_THOUGHT = re.compile(r"\A\s*<think>\s*(?:</think>\s*)?\Z")
_END = "|".join(map(re.escape, _ENDS))
# A rendering closes an answer right behind its last word; what people say of a token has a blank.
_LEFT_END = re.compile(rf"(?<=\S)\n?(?:{_END})\s*\Z")
_CLOSED = re.compile(rf"(?:\s*(?:{_END}))+\s*\Z")


class HalfWritten(ValueError):
  """A text that begins as a template writes dialogues, but cannot be taken apart; it says why."""


def take_apart(text: str, *, is_answer: bool = False) -> tuple[Message, ...] | None:
  """The turns of a dialogue that a chat template has written; None of any other text.

  Args:
    text: of a prompt or of a whole dialogue; it ends in an answer, or where one begins.
    is_answer: it is an answer, which may say "USER: …" without being a dialogue.

  Raises:
    HalfWritten: the text begins as such a dialogue, but something in it belongs to no turn.
  """
  body = _without_start(text)
  for dialect in DIALECTS:
    before = dialect.before.match(body)
    start = before.end() if before else 0
    if (dialect.is_text and is_answer) or not dialect.opening.match(body, start):
      continue
    turns = list(dialect.opening.finditer(body, start))
    is_complete = _role(turns[-1]) == "assistant" or _CLOSED.search(body)
    if is_complete and turns[0]["role"] != "/INST":
      return _turns(dialect, body, turns)
    if not dialect.is_text and not re.search(
      r" \Z|\A ", turns[0].group()[-1] + body[turns[0].end() :][:1]
    ):
      raise HalfWritten(f"it begins with {turns[0].group()!r}, behind which no turn ends")
  return None


def without_left_end(text: str) -> str:
  """An answer without the end of a turn that a template has left behind its last word."""
  found = _LEFT_END.search(text)
  if found is None or ("</s>" in found.group() and "<s>" in text):
    return text  # "<s>…</s>" strikes a text through in HTML
  return without_left_end(text[: found.start()])


def without_end(text: str) -> str:
  """An answer to a prompt that a template has written, without the end of its turn."""
  return _CLOSED.sub("", text)


def _without_start(text: str) -> str:
  body = text.lstrip()
  for start in _STARTS:
    # Mistral's "<s>" belongs to the turns that come later as well.
    body = body.removeprefix(start).lstrip()
  return body


def _role(turn: re.Match[str]) -> Role | None:
  name = turn["role"].lower().removeprefix("gpt4 correct ")
  return _ROLES.get(name)


def _turns(dialect: Dialect, body: str, turns: Sequence[re.Match[str]]) -> tuple[Message, ...]:
  messages: list[Message] = []
  ends = [*(turn.start() for turn in turns[1:]), len(body)]
  for number, (turn, end) in enumerate(zip(turns, ends, strict=True)):
    role = _role(turn)
    content = body[turn.end() : end]
    if role is None:  # what closes a system prompt: nothing stands behind it
      if content.strip():
        raise HalfWritten(f"it has the text {content.strip()[:40]!r} behind {turn.group()!r}")
      continue
    is_last = number == len(turns) - 1
    if dialect.ends and not is_last:
      content = _closed(dialect, content, turn)
    messages += _messages(role, content)
  return tuple(messages)


def _closed(dialect: Dialect, content: str, turn: re.Match[str]) -> str:
  """The content of a turn that another follows, without its end.

  Raises:
    HalfWritten: there is none, so that what seems to open the next turn may be text.
  """
  text = content.rstrip()
  for end in dialect.ends:
    if text.endswith(end):
      return text.removesuffix(end)
  raise HalfWritten(f"its turn {turn.group()!r} is not closed by {dialect.ends[0]!r}")


def _messages(role: Role, content: str) -> list[Message]:
  text = _CLOSED.sub("", content)
  system = _LLAMA_2_SYSTEM.match(text) if role == "user" else None
  if system:
    return [*_messages("system", system[1]), Message("user", text[system.end() :].strip())]
  if role == "system":
    text = _LLAMA_3_DATE.sub("", text.lstrip())
    return [Message("system", text.strip())] if text.strip() else []
  if _EMPTY_THOUGHT.match(text):
    text = ""
  return [Message(role, text.strip() if role == "user" else text.strip("\n").rstrip())]
