"""The check of a chat template on dialogues of the data, made before anything is trained.

A run reads a dialogue as query ids, response ids and the end. They must be the ids of the
template's own rendering of the whole dialogue, tokenised in one piece. What may differ is little,
and named in docs/templates.md: white space that the template trims at an answer's ends, a sign
that thoughts are off, thoughts that it takes out, a system turn that it writes before a last
question alone, an end that it does not write, and the tokens at the border of query and response
where one would cross it: a model samples behind the query, so it can draw only what begins there.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from apo_jax.config.fields import ConfigError
from apo_jax.data.chat_form import ChatForm
from apo_jax.data.dialogue import (
  Message,
  find_marker,
  holds_quoted_marker,
  parse_query,
  parse_response,
  quote_markers,
  render_query,
)
from apo_jax.data.records import Demonstration, GameData, Preference, Query
from apo_jax.data.special_tokens import special_ids, special_names
from apo_jax.data.tokens import Codec, visible_tokens

Record = Query | Demonstration | Preference

# So many records of each kind (`_traits`), found among the first of each list.
_OF_A_KIND = 2
_LOOKED_AT = 2000
_MOST = 40
# Tokens shown before the first that differs, and in all.
_SHOWN_BEFORE, _SHOWN = 8, 24

_THOUGHT = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
_NAME = re.compile(r"<[|/]?\w+[|]?>|\[/?[A-Z]+\]")


class TemplateCheck(NamedTuple):
  """What was compared.

  Attributes:
    compared: how many dialogues, small ones of our own among them.
    at_border: how many of them differ in the tokens at the border of query and response alone.
  """

  compared: int
  at_border: int

  def sentence(self) -> str:
    """The result on one line."""
    if not self.compared:
      return "Dialogues are written as Human: and Assistant:, by no chat template."
    border = (
      f" but for tokens across the border of query and response in {self.at_border}"
      if self.at_border
      else ""
    )
    return (
      f"The chat template was checked on {self.compared} dialogues: query, response and end have"
      f" the ids of its own rendering of the whole{border}."
    )


class _Pair(NamedTuple):
  """A query and a response in the canonical form, and what errors call them."""

  where: str
  query: str
  response: str


def choose_records(data: GameData) -> tuple[Record, ...]:
  """A few dozen records that differ in their turns, their white space and the names they hold."""
  lists: list[Sequence[Record]] = [data.demonstrations]
  for split in (data.reward, data.policy, data.test):
    lists += [split.preferences, split.golden, split.queries]
  chosen: list[Record] = []
  seen: dict[tuple[type, tuple[bool, ...]], int] = {}
  for records in lists:
    for record in records[:_LOOKED_AT]:
      traits = (type(record), _traits(record))
      seen[traits] = seen.get(traits, 0) + 1
      if seen[traits] <= _OF_A_KIND:
        chosen.append(record)
  return tuple(chosen[:_MOST])


def check_template(codec: Codec, records: Sequence[Record]) -> TemplateCheck:
  """Compares query, response and end with the template's own rendering of whole dialogues.

  Args:
    codec: of the run; under the HH form nothing is compared.
    records: of the data, as `choose_records` gives them; small dialogues of our own come beside.

  Raises:
    ConfigError: some ids differ, the message shows the two side by side; or the template refuses a
      dialogue.
  """
  form = codec.form
  if not isinstance(form, ChatForm):
    return TemplateCheck(0, 0)
  pairs = [*_own_pairs(form), *_pairs(records)]
  usable = [one for one in pairs if form.why_unfit(one.query, [one.response]) is None]
  at_border = [_compare(codec, form, one) for one in usable]
  return TemplateCheck(len(usable), sum(at_border))


def _traits(record: Record) -> tuple[bool, ...]:
  """What a template may treat in its own way."""
  turns = parse_query(record.query)
  texts = [turn.content for turn in turns] + [text for text, _ in _responses(record)]
  return (
    len(turns) > 2,
    turns[0].role == "system",
    any(turn.role == following.role for turn, following in itertools.pairwise(turns)),
    any(text != f" {text.strip()}" for text, _ in _responses(record)),
    any(find_marker(text) is not None for text, _ in _responses(record)),
    any(map(holds_quoted_marker, (record.query, *(text for text, _ in _responses(record))))),
    any(_NAME.search(text) is not None for text in texts),
    any("<think>" in text for text in texts),
  )


def _responses(record: Record) -> Iterator[tuple[str, str]]:
  """Responses of a record, at most two, with what they are called."""
  if isinstance(record, Preference):
    yield from ((text, f"response {n}") for n, text in enumerate(record.responses[:2], start=1))
  elif isinstance(record, Demonstration):
    yield record.response, "the response"


def _pairs(records: Iterable[Record]) -> Iterator[_Pair]:
  for record in records:
    name = f"{type(record).__name__.lower()} {record.query_id!r}"
    said = list(_responses(record)) or [(" Yes, it is.", "an answer")]
    for text, which in said:
      yield _Pair(f"the {name} with {which}", record.query, text)


def _own_pairs(form: ChatForm) -> Iterator[_Pair]:
  """Small dialogues of our own, that hold what few data sets hold."""
  system, question = Message("system", "Be brief."), Message("user", "Is basalt a rock?")
  answer, code = Message("assistant", "Yes."), "  if x:\n    return 1"
  names = sorted(special_names(form.tokenizer))[:9]
  named = Message("user", f"What is {' '.join(names)}\n\nHuman: ?")
  dialogues = (
    [question],
    [system, question],
    [question, answer, question],
    [system, question, answer, question, answer, question],
    [named],
  )
  for messages in dialogues:
    for text in ("No: 1.", code, "Ünï 👩‍👩‍👧…", f"It is {names[0]}, I think."):
      response = f" {quote_markers(text)}"
      yield _Pair("a small dialogue of our own", render_query(messages), response)


def _compare(codec: Codec, form: ChatForm, pair: _Pair) -> bool:
  """Whether the ids differ at the border alone.

  Raises:
    ConfigError: they differ elsewhere.
  """
  (query,) = codec.form.query_ids([pair.query])
  (responses,) = codec.encode_answers([pair.query], [[pair.response]])
  if responses is None:  # later turns that change the query, which are left out and counted
    return False
  ours = [*query, *responses[0].tokens, form.eos]
  whole = form.write([*parse_query(pair.query), *parse_response(pair.response)], opens_answer=False)
  if find_marker(pair.response):
    theirs = form.ids([whole])[0]
  else:
    theirs = _expected(form, pair, whole)
  if theirs[: len(ours)] == ours or theirs == ours[:-1]:
    return False
  if _differ_at_border(codec, ours, theirs, len(query)):
    return True
  raise ConfigError(*_side_by_side(codec, pair, ours, theirs))


def _expected(form: ChatForm, pair: _Pair, whole: str) -> list[int]:
  """The ids of the template's rendering of a whole dialogue, with what it may do otherwise undone.

  Where it does what it may not, the ids are those of the rendering itself.

  Args:
    form: of the run.
    pair: the dialogue; its response is one turn.
    whole: the rendering, names of special tokens broken.
  """
  messages = parse_query(pair.query)
  opened = form.write(messages, opens_answer=True)
  (said,) = parse_response(pair.response)
  answer = form.as_text(said.content)
  shown = answer if answer.strip() in whole else form.as_text(_THOUGHT.sub("", said.content))
  before, found, behind = whole.rpartition(shown.strip())
  head = before[: len(before.rstrip())]
  if not found:
    return form.ids([whole])[0]
  gap = before[len(opened) :]
  if not before.startswith(opened):
    last = form.as_text(messages[-1].content)
    if not _is_written_otherwise(form, messages, whole, opened, before.rpartition(last)[2]) and (
      not (form.thought or shown != answer) or not opened.startswith(head)
    ):
      return form.ids([whole])[0]
    gap = form.opening
  elif shown != answer:
    gap = form.opening  # line breaks behind a thought that was taken out
  if gap == form.opening:
    gap += answer[: len(answer) - len(answer.lstrip())]  # which the template may trim
  end = behind if behind.strip() else ""
  return form.ids([f"{opened}{gap}{answer.lstrip()}{end}"])[0]


def _is_written_otherwise(
  form: ChatForm, messages: Sequence[Message], whole: str, opened: str, behind: str
) -> bool:
  """Whether a whole dialogue has lost what the query has, and opens the answer in the same way.

  So it is with a system turn that comes before a last question, where an answer follows that.

  Args:
    form: of the run.
    messages: of the query.
    whole: the rendering with the answer.
    opened: that of the query.
    behind: what stands between the last question and the answer in the whole.
  """
  contents = [form.as_text(one.content) for one in messages]
  is_lost = not all(text in whole for text in contents) and all(text in opened for text in contents)
  as_opened = opened.rpartition(contents[-1])[2] + form.opening
  return is_lost and behind.startswith(as_opened) and not behind.removeprefix(as_opened).strip()


def _differ_at_border(codec: Codec, ours: list[int], theirs: list[int], border: int) -> bool:
  """Whether the same text is split into other tokens only where query and response meet."""
  closed = theirs[: len(theirs) - theirs[::-1].index(ours[-1])] if ours[-1] in theirs else theirs
  # A template may write no end behind the last answer.
  return _meet_otherwise(codec, ours, closed, border) or _meet_otherwise(
    codec, ours[:-1], theirs, border
  )


def _meet_otherwise(codec: Codec, ours: list[int], theirs: list[int], border: int) -> bool:
  shorter = min(len(ours), len(theirs))
  start = next((i for i in range(shorter) if ours[i] != theirs[i]), shorter)
  end = next((i for i in range(shorter - start) if ours[-1 - i] != theirs[-1 - i]), shorter - start)
  differing = {*ours[start : len(ours) - end], *theirs[start : len(theirs) - end]}
  is_around = start <= border <= len(ours) - end
  is_special = differing & special_ids(codec.form.tokenizer)
  return is_around and not is_special and _text(codec, ours) == _text(codec, theirs)


def _text(codec: Codec, ids: Sequence[int]) -> str:
  return codec.form.tokenizer.decode(
    ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
  )


def _side_by_side(codec: Codec, pair: _Pair, ours: list[int], theirs: list[int]) -> tuple[str, ...]:
  """A sentence, and the two as lines below it."""
  shorter = min(len(ours), len(theirs))
  first = next((i for i in range(shorter) if ours[i] != theirs[i]), shorter)
  start = max(0, first - _SHOWN_BEFORE)

  def shown(ids: list[int]) -> str:
    tokens = visible_tokens(codec.form.tokenizer, ids[start : start + _SHOWN])
    place = first - start
    marked = "".join(f"‹{token}›" for token in tokens[:place]) + " ▶ "
    marked += "".join(f"‹{token}›" for token in tokens[place:])
    return f"{'… ' * (start > 0)}{marked}{' …' * (len(ids) > start + _SHOWN)}"

  return (
    "config.data.chat_template: query, response and end are not what the template itself makes of "
    f"the whole dialogue, from token {first} (▶) on, in {pair.where}; give a template whose "
    "generation prompt and turns are those of whole dialogues, or 'hh'.",
    f"  the run's:      {shown(ours)}",
    f"  the template's: {shown(theirs)}",
  )
