"""Two answers side by side, and columns that say which is better.

    response_1, response_2, preference_strength      response_a, response_b, winner_model_a, …

Every verdict of a row is read. Where they contradict each other, the row is bad; where they see no
difference, it is a tie.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from apo_jax.data.answers import (
  asked_of,
  canonical,
  response_of,
  response_of_messages,
  with_system,
)
from apo_jax.data.bad_rows import BadRow
from apo_jax.data.candidates import Candidate
from apo_jax.data.columns import QUERY, RowView, says_nothing
from apo_jax.data.dialogue import Message
from apo_jax.data.formats.pairs import shared_turns
from apo_jax.data.messages import messages_of, written_list
from apo_jax.data.values import field, flag_of, number_of, query_id_of, shown

_STEMS = ("response", "answer", "output", "completion", "human_ref", "conversation", "candidate",
          "generation", "summary")  # fmt: skip
_ENDS = (("_0", "_1"), ("_1", "_2"), ("_a", "_b"), ("0", "1"), ("1", "2"), ("_left", "_right"))
NAMES = tuple(
  (f"{stem}{first}", f"{stem}{second}")
  for stem, (first, second) in itertools.product(_STEMS, _ENDS)
)
_SCORES = ("score", "rating", "reward")
_TIES = ("tie", "both", "neither", "equal", "draw", "same", "none")
# Columns whose number says how much better the second answer is (HelpSteer 2 and 3).
_STRENGTHS = ("preference_strength", "overall_preference")
# Columns that name an answer by its number or letter.
_CHOICES = ("better_response_id", "safer_response_id", "winner", "preferred", "preference",
            "better", "choice", "verdict", "label", "labels")  # fmt: skip
# Of these a bare number may count the answers, or say how much better one is.
_VAGUE = ("preference", "verdict", "label", "labels", "choice")


def has_two_answers(columns: Mapping[str, Any]) -> bool:
  """Whether two answers stand side by side."""
  return _named(columns) is not None


def two_answers(row: RowView) -> Candidate:
  """The better of the two answers, then the other."""
  names = _named({name: None for name in row.said}) or _named(dict.fromkeys(row))
  if names is None:
    raise BadRow("missing field", "it has no two responses")
  third = _next_name(names[1])
  if third in row.said:
    raise BadRow("unread column", f"it has {third} beside {names[0]} and {names[1]}")
  better = _verdict(row, names)
  query, first, second = _sides(row, names)
  if better == 0:
    return Candidate(query_id_of(row), query, (first, second), (0.0, 0.0))
  pair = (first, second) if better < 0 else (second, first)
  return Candidate(query_id_of(row), query, pair, (1.0, 0.0))


def _named(columns: Mapping[str, Any]) -> tuple[str, str] | None:
  return next((names for names in NAMES if names[0] in columns and names[1] in columns), None)


def _next_name(name: str) -> str:
  return name[:-1] + chr(ord(name[-1]) + 1)


def _sides(row: RowView, names: tuple[str, str]) -> tuple[str, str, str]:
  values = [field(row, name) for name in names]
  lists = [written_list(value) if isinstance(value, str) else value for value in values]
  if all(isinstance(one, list) and one and not isinstance(one[0], Mapping) for one in lists):
    # Chatbot Arena's rows of 55,000: what the user said, and what each model did, turn by turn.
    sides = [_turns(row, lists[index], names[index]) for index in (0, 1)]
  elif all(isinstance(one, list) for one in lists) and not _has_query(row):
    sides = [messages_of(one, name) for one, name in zip(lists, names, strict=True)]
  else:
    query, behind = asked_of(row)
    first, second = (
      response_of(value, name, behind=behind) for value, name in zip(values, names, strict=True)
    )
    return query, first, second
  start = shared_turns(*sides)
  if not start:
    raise BadRow("sides of different queries", f"{names[0]} and {names[1]} share no query")
  query = canonical(with_system(row, sides[0][:start]), names[0])
  first, second = (
    response_of_messages(side[start:], name) for side, name in zip(sides, names, strict=True)
  )
  return query, first, second


def _turns(row: RowView, answers: list[Any], name: str) -> tuple[Message, ...]:
  prompts = field(row, "prompt")
  prompts = written_list(prompts) if isinstance(prompts, str) else prompts
  if not isinstance(prompts, list) or len(prompts) != len(answers):
    problem = f"{name} is a list of {len(answers)} answers; prompt must be as many questions"
    raise BadRow("wrong field", problem)
  if not all(isinstance(text, str) for text in (*prompts, *answers)):
    raise BadRow("wrong field", f"{name} is {shown(answers)}; each must be a text")
  pairs = zip(prompts, answers, strict=True)
  return tuple(
    turn for ask, say in pairs for turn in (Message("user", ask), Message("assistant", say))
  )


def _verdict(row: RowView, names: tuple[str, str]) -> int:
  """-1 where the first answer is better, 1 where the second is, 0 where neither is.

  Raises:
    BadRow: nothing says so, or two columns contradict each other.
  """
  found: dict[str, int] = {}
  for name in _STRENGTHS:
    if not says_nothing(row.peek(name)):
      found[name] = _sign(_number(row, name))
  for name in _CHOICES:
    if not says_nothing(row.peek(name)):
      found[name] = _choice(row, name, names)
  found |= _flags(row) | _scores(row, names) | _safety(row, names, found)
  signs = {sign for sign in found.values() if sign}
  if not found:
    raise BadRow("missing field", f"nothing says which of {names[0]} and {names[1]} is better")
  if len(signs) > 1 or (signs and 0 in found.values()):
    said = ", ".join(f"{name} {_WORDS[sign]}" for name, sign in found.items())
    raise BadRow("contradiction", f"{said}; drop the columns that are not to count")
  return signs.pop() if signs else 0


_WORDS = {-1: "is for the first answer", 1: "is for the second", 0: "is for neither"}


def _choice(row: RowView, name: str, names: tuple[str, str]) -> int:
  value = row[name]
  ends = [one.rpartition("_")[2] if "_" in one else one[-1] for one in names]
  number = number_of(value)
  if names[0] == "human_ref_a" and name == "labels":
    # Stanford's SHP: 1 is for A, 0 for B.
    ends, said = ["1", "0"], "" if number is None else f"{number:g}"
  elif names[0].startswith("output") and name == "preference" and number is not None:
    # AlpacaEval's annotations: from 1 for the first to 2 for the second.
    if not 1 <= number <= 2:
      raise BadRow("wrong field", f"{name} is {shown(value)}; it must be from 1 to 2")
    return _sign(number - 1.5)
  elif number is not None:
    if name in _VAGUE:
      problem = f"{name} is {shown(value)}, which may be the place of an answer or a strength"
      raise BadRow("wrong field", f"{problem}; write chosen and rejected")
    said = f"{number:g}"
  else:
    said = str(value).strip().lower().replace(" ", "_")
    if said.startswith(_TIES):
      return 0
    models = [row.peek(f"model_{end}") for end in ends]
    if value in models and models[0] != models[1]:
      return -1 if value == models[0] else 1
    said = said.rpartition("_")[2]
  if said not in ends:
    wanted = f"{names[0]!r} or {names[1]!r}"
    raise BadRow("wrong field", f"{name} is {shown(value)}; it must name {wanted} or a tie")
  return -1 if said == ends[0] else 1


def _flags(row: RowView) -> dict[str, int]:
  """Of winner_model_a, winner_model_b and winner_tie, of which one is true."""
  names = ("winner_model_a", "winner_model_b", "winner_tie")
  there = [name for name in names if not says_nothing(row.peek(name))]
  if not there:
    return {}
  true = [name for name in there if flag_of(row[name], name)]
  if len(true) != 1:
    raise BadRow("contradiction", f"{len(true)} of {', '.join(there)} are true; it must be one")
  return {true[0]: {names[0]: -1, names[1]: 1, names[2]: 0}[true[0]]}


def _scores(row: RowView, names: tuple[str, str]) -> dict[str, int]:
  found = {}
  ends = [name[-1] if "_" not in name else f"_{name.rpartition('_')[2]}" for name in names]
  for word in _SCORES:
    both = [f"{word}{end}" for end in ends]
    if all(not says_nothing(row.peek(name)) for name in both):
      found[both[0]] = _sign(_number(row, both[1]) - _number(row, both[0]))
  return found


def _safety(row: RowView, names: tuple[str, str], found: Mapping[str, int]) -> dict[str, int]:
  """What PKU-SafeRLHF says of each answer alone, where one is safe and the other is not."""
  flags = [f"is_{name}_safe" for name in names]
  if "safer_response_id" not in found or any(says_nothing(row.peek(name)) for name in flags):
    return {}
  safe = [flag_of(row[name], name) for name in flags]
  return {} if safe[0] == safe[1] else {flags[0]: -1 if safe[0] else 1}


def _number(row: RowView, name: str) -> float:
  value = row[name]
  number = number_of(value)
  if number is None:
    raise BadRow("wrong scores", f"{name} is {shown(value)}; it must be a finite number")
  return number


def _sign(value: float) -> int:
  return (value > 0) - (value < 0)


def _has_query(row: RowView) -> bool:
  return any(not says_nothing(row.peek(name)) for name in QUERY)
