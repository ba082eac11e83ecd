"""Queries, responses and ends as a chat template writes them.

A query is read as messages, the template writes them and opens the answer; its end-of-turn token
ends a response. The names of its special tokens in what people wrote are text.
"""

import copy
import re
from collections.abc import Sequence
from typing import NamedTuple

import tokenizers
import transformers

from apo_jax.config.fields import ConfigError
from apo_jax.data.continuations import continuation
from apo_jax.data.dialogue import (
  Message,
  answer_text,
  parse_query,
  parse_response,
  render_query,
  unquote_markers,
)
from apo_jax.data.openings import (
  DIALOGUE,
  SYSTEM,
  Opening,
  UnusableTemplate,
  find_opening,
)
from apo_jax.data.rendering import (
  REFUSALS,
  alternating,
  fold_system,
  holds,
  render,
  render_all,
  short,
)
from apo_jax.data.special_tokens import (
  make_special,
  special_ids,
  special_names,
  written_around_turns,
)
from apo_jax.data.tokenizer_limits import told_apart

# Behind the first character of a special token's name in a message. It is a token of its own, so
# the tokenizer reads what stands before and after it as text; its id is taken out afterwards.
_MARK = "\ue000\ue001"

_THOUGHT = re.compile(r"\s*<think>")
_CLOSED_THOUGHT = re.compile(r"(?:<think>\s*)?</think>\s*\Z")


class ChatForm(NamedTuple):
  """Queries as a chat template writes them.

  Attributes:
    tokenizer: a copy that knows the mark; all that the template writes around turns is special.
    template: the Jinja text; its generation prompt is what an answer follows (data/openings.py).
    bos: the id that the template writes first, or None where it does not begin with bos.
    eos: the id that ends a response: the end-of-turn token the template writes there.
    opening: white space the template writes between the opened turn and an answer's text.
    closing: white space it writes between the answer's text and eos.
    lead: the opened turn's last words, or its last token, behind which answers are tokenised.
    thought: what switches thoughts off at the end of a query, or "" (`openings.Opening`).
    closes_thought: queries end behind a thought, so that none belongs in an answer.
    folds_system: the template knows no system turn; its text opens the first user turn instead.
    special_names: finds the first character of each name of a special token.
    written: finds that a text is a dialogue which the template has written already.
  """

  tokenizer: transformers.PreTrainedTokenizerBase
  template: str
  bos: int | None
  eos: int
  opening: str
  closing: str
  lead: str
  thought: str
  closes_thought: bool
  folds_system: bool
  special_names: re.Pattern[str]
  written: re.Pattern[str]

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
    # The template writes bos where there is one.
    return self.ids(self._write_all([parse_query(text) for text in texts], opens_answer=True))

  def shorter_query_ids(self, text: str, room: int) -> list[int] | None:
    """The ids of a query that is longer than `room`, cut between turns; None where none fits.

    The system turn stays where the last question fits beside it, and of the others the newest. A
    last question that is too long alone loses its left, within its turn.
    """
    messages = parse_query(text)
    system = [message for message in messages if message.role == "system"]
    starts = [place for place, message in enumerate(messages) if message.role == "user"]
    for before in (system, []) if system else ([],):
      for start in starts:
        ids = self._opened_ids([*before, *messages[start:]])
        if len(ids) <= room:
          return ids
    last = messages[starts[-1]] if starts else messages[-1]
    too_much, enough, found = 0, len(last.content) - 1, None
    while too_much < enough:
      start = (too_much + enough) // 2
      ids = self._opened_ids([Message("user", last.content[start:].strip() or last.content[-1:])])
      if len(ids) <= room:
        enough, found = start, ids
      else:
        too_much = start + 1
    if found is None:
      ids = self._opened_ids([Message("user", last.content[-1:])])
      found = ids if len(ids) <= room else None
    return found

  def response_ids(self, texts: Sequence[str]) -> list[list[int]]:
    """The ids of whole responses as they follow a query, without eos.

    Some tokenizers put a blank before a first word, which an answer behind the opened turn has
    not. So it is tokenised behind the turn's last words, unless a token would cross the border.
    """
    said = [unquote_markers(answer_text(text)) for text in texts]
    answers = [f"{self.opening}{self.as_text(text)}{self.closing}" if text else "" for text in said]
    leads = list(dict.fromkeys([self.lead, "\n"]))
    found: list[list[int] | None] = [None] * len(answers)
    for lead, before in zip(leads, self.ids(leads), strict=True):
      for place, ids in enumerate(self.ids([lead + answer for answer in answers])):
        if found[place] is None and ids[: len(before)] == before:
          found[place] = ids[len(before) :]
    return [
      self.ids([answer])[0] if ids is None else ids
      for ids, answer in zip(found, answers, strict=True)
    ]

  def later_turns_ids(self, query: str, response: str) -> list[int] | None:
    """The ids of a response that goes on over several turns, as the template writes them.

    Returns:
      None where the template writes the query otherwise before later turns.
    """
    (before,) = self.query_ids([query])
    ids = self.whole_ids([*parse_query(query), *parse_response(response)])
    ends = [place for place, token in enumerate(ids) if token == self.eos]
    if ids[: len(before)] != before:
      return None
    return ids[len(before) : ends[-1]] if ends and ends[-1] >= len(before) else ids[len(before) :]

  def whole_ids(self, messages: Sequence[Message]) -> list[int]:
    """The ids of a dialogue that ends in an answer, as the template itself writes it."""
    return self.ids([self.write(messages, opens_answer=False)])[0]

  def continuation_ids(self, ids: Sequence[int], text: str) -> list[int]:
    """The ids of a text that goes on behind the ids of a response."""
    special = special_ids(self.tokenizer)
    lead = [token for token in self.ids([self.lead])[0] if token not in special]

    def read(texts: Sequence[str]) -> list[list[int]]:
      return self.ids([self.as_text(text) for text in texts])

    return continuation(self.tokenizer, read, [[*lead, *ids], ids[-1:]], text)

  def why_unfit(self, query: str, responses: Sequence[str]) -> str | None:
    """Why a record would be read as something else, in a few words, or None."""
    said = [message.content for message in parse_query(query)]
    if any(self.written.search(text) for text in (*said, *responses)):
      return "written by a template"
    if self.closes_thought and any(_THOUGHT.match(text) for text in responses):
      return "a thought where thoughts are off"
    return None

  def ids(self, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts that the template has written, or of parts of such."""
    if not texts:
      return []
    mark = self.tokenizer.convert_tokens_to_ids(_MARK)
    with told_apart(self.tokenizer):
      ids = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [[token for token in row if token != mark] for row in ids]

  def write(self, messages: Sequence[Message], *, opens_answer: bool) -> str:
    """The text of a dialogue by the template, names of special tokens in it broken.

    Raises:
      ConfigError: the template refuses it.
    """
    return self._write_all([messages], opens_answer=opens_answer)[0]

  def as_text(self, content: str) -> str:
    """The content with every name of a special token broken, also where names overlap."""
    return self.special_names.sub(rf"\1{_MARK}", content)

  def _write_all(self, dialogues: Sequence[Sequence[Message]], *, opens_answer: bool) -> list[str]:
    """The texts of several dialogues, as `write` writes each."""
    given = [self._as_given(messages) for messages in dialogues]
    found = render_all(self.tokenizer, self.template, given, opens_answer=opens_answer)
    return [
      self._write_alternating(messages, opens_answer) if isinstance(text, REFUSALS) else text
      for messages, text in zip(given, found, strict=True)
    ]

  def _as_given(self, messages: Sequence[Message]) -> list[Message]:
    """The dialogue as the template is given it."""
    given = [Message(message.role, self.as_text(message.content)) for message in messages]
    return fold_system(given) if self.folds_system else given

  def _write_alternating(self, messages: Sequence[Message], opens_answer: bool) -> str:
    try:
      turns = alternating(messages)
      return render(self.tokenizer, self.template, turns, opens_answer=opens_answer)
    except REFUSALS as error:
      raise ConfigError(
        f"config.data.chat_template refuses the query {short(render_query(messages))!r} "
        f"({short(error)}); give a template that takes it, or 'hh'."
      ) from error

  def _opened_ids(self, messages: Sequence[Message]) -> list[int]:
    return self.ids([self.write(messages, opens_answer=True)])[0]


def complete_template(tokenizer: transformers.PreTrainedTokenizerBase, template: str) -> str:
  """The template with a generation prompt that an answer follows, where its own is another.

  A template that cannot be used comes back as it is: `make_chat_form` says why.
  """
  try:
    return find_opening(tokenizer, template).template
  except (UnusableTemplate, *REFUSALS):
    return template


def make_chat_form(
  tokenizer: transformers.PreTrainedTokenizerBase, template: str, chat_template: str
) -> ChatForm:
  """The form of a chat template, tried out on a small dialogue.

  Args:
    tokenizer: is copied, not changed.
    template: the Jinja text.
    chat_template: the config's field that stands for it, for errors.

  Raises:
    ConfigError: the template cannot be read, refuses a dialogue of two turns, leaves out or
      changes what was said, or writes nothing constant before an answer; or nothing ends a
      response.
  """
  named = f"config.data.chat_template is {short(chat_template)!r}; the template it stands for"
  marked = copy.deepcopy(tokenizer)
  mark = tokenizers.AddedToken(_MARK, special=True, normalized=False)
  marked.add_tokens([mark], special_tokens=True)
  try:
    found = find_opening(marked, template)
    knows_system = _knows_system(marked, found.template)
    around = _around_turns(marked, found, knows_system)
  except UnusableTemplate as error:
    raise ConfigError(f"{named} {error}, or 'hh'.") from error
  except REFUSALS as error:
    raise ConfigError(
      f"{named} refuses a dialogue of two turns ({short(error)}); give another, or 'hh'."
    ) from error
  make_special(marked, written_around_turns(marked, around))
  names = special_names(marked)
  eos, closing = _end(marked, found)
  if eos is None:
    raise ConfigError(
      f"{named} writes no special token behind a response, and the tokenizer has no "
      "end-of-sequence token; a response could not end."
    )
  with told_apart(marked):
    ids = marked(found.opened, add_special_tokens=False)["input_ids"]
  every_name = "|".join(map(re.escape, sorted(names)))
  return ChatForm(
    tokenizer=marked,
    template=found.template,
    bos=marked.bos_token_id if ids[:1] == [marked.bos_token_id] else None,
    eos=eos,
    opening=found.gap,
    closing=closing,
    lead=_last_words(found.opened, names),
    thought=found.thought,
    closes_thought=_CLOSED_THOUGHT.search(found.opened) is not None,
    folds_system=not knows_system,
    special_names=re.compile(f"(?={every_name})(.)", re.DOTALL),
    written=_written(found, names),
  )


def _end(tokenizer: transformers.PreTrainedTokenizerBase, found: Opening) -> tuple[int | None, str]:
  """The id that ends a response, and the white space that the template writes before it."""
  ends = special_ids(tokenizer)
  question, answer, next_question = (message.content for message in DIALOGUE)
  between = found.whole.split(answer, 1)[1].split(next_question, 1)[0]
  if found.whole.split(question, 1)[0].endswith(between):
    between = ""  # the next question's own opening
  for behind in (found.behind, between):
    text = behind.lstrip()
    with told_apart(tokenizer):
      first = tokenizer(text, add_special_tokens=False)["input_ids"][:1] if text else []
    if first and first[0] in ends:
      return first[0], behind[: len(behind) - len(text)]
  return tokenizer.eos_token_id, ""


def _written(found: Opening, names: set[str]) -> re.Pattern[str]:
  """Finds texts that begin as a user's turn, or end as an opened answer behind one.

  A text that only names the special tokens is none. Without special tokens nothing tells.
  """
  question, answer, next_question = (message.content for message in DIALOGUE)
  between = found.whole.split(answer, 1)[1].split(next_question, 1)[0]
  first = found.whole.split(question, 1)[0]
  # What stands before both questions, from a token's name on.
  every_name = "|".join(map(re.escape, names))
  starts = [one.start() for one in re.finditer(every_name or "(?!)", between)]
  user = next((between[start:] for start in starts if first.endswith(between[start:])), "")
  opened = _CLOSED_THOUGHT.sub("", found.opened.rpartition(next_question)[2]).strip()
  if not opened or not user:
    return re.compile(r"(?!)")
  both = f"{re.escape(user)}.*{re.escape(opened)}"
  return re.compile(rf"\A\s*(?={every_name}).*?{both}|{both}\s*\Z", re.DOTALL)


def _knows_system(tokenizer: transformers.PreTrainedTokenizerBase, template: str) -> bool:
  """Whether a system turn is written at all; some templates put it before the last question."""
  try:
    rendered = render(tokenizer, template, [SYSTEM, *DIALOGUE], opens_answer=True)
  except REFUSALS:
    return False
  return holds(rendered, [SYSTEM]) and holds(rendered, DIALOGUE)


def _around_turns(
  tokenizer: transformers.PreTrainedTokenizerBase, found: Opening, knows_system: bool
) -> str:
  """All that the template writes before, between and behind turns, but for the last opening.

  There a template may open and close thoughts, and those are text that a response may hold.
  """
  system = [SYSTEM] if knows_system else []
  whole = render(tokenizer, found.template, [*system, *DIALOGUE], opens_answer=True)
  around = whole.rpartition(DIALOGUE[-1].content)[0] + "\0" + found.behind
  for message in (*system, *DIALOGUE[:-1]):
    around = around.replace(message.content, "\0")
  return around


def _last_words(opened: str, names: set[str]) -> str:
  """What stands behind the last special token and line break of a text, or that token itself.

  Behind a token, too, some tokenizers read a text otherwise than alone.
  """
  split = re.split(f"({'|'.join(map(re.escape, names)) or '$'})", opened)
  behind = split[-1]
  return behind[behind.rstrip().rfind("\n") + 1 :] or "".join(split[-2:-1])
