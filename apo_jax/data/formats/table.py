"""The formats, told apart by the columns of each row that say something.

`FORMATS` is a table of name, what it gives, how it is known and how a row is read; the first that
knows the columns is taken, so that the special ones come before the general ones. A parser is a
pure function from a row to a `Candidate`, or to the messages of a tree. What a format gives, it
also gives to fields that need less: preferences hold demonstrations (their best responses) and
queries.
"""

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.candidates import Candidate, Kind
from apo_jax.data.columns import QUERY, RESPONSE, RowView, part_of
from apo_jax.data.formats import k_wise, one_answer, pair_scores, pairs, trees, two_answers
from apo_jax.data.formats.shape import Columns, Format, any_of, has
from apo_jax.data.formats.trees import Node
from apo_jax.data.values import present

# Layouts that are known and not read, by the columns that tell them: what to do with such rows.
_REFUSED = (
  (
    {"info", "summaries", "choice"},
    "OpenAI's summarize_from_feedback: write prompt (info.post), chosen (summaries[choice].text)"
    " and rejected (the other)",
  ),
  ({"context", "original_response", "edited_response"}, "HelpSteer3's edits: write chosen and"
   " rejected"),
  ({"rows", "features"}, "the hub viewer's answer: write its rows[].row, one a line"),
  ({"row", "row_idx"}, "the hub viewer's answer: write each row's `row`, one a line"),
)  # fmt: skip


def _has_response(columns: Columns) -> bool:
  return any_of(columns, RESPONSE)


FORMATS: tuple[Format, ...] = (
  Format(
    "OpenAssistant messages",
    "preferences",
    has("message_id", "text", "role"),
    trees.node_of_row,
    frozenset({"labels"}),
  ),
  Format(
    "OpenAssistant trees",
    "preferences",
    lambda columns: "message_tree_id" in columns and hasattr(columns.get("prompt"), "keys"),
    trees.nodes_of_tree,
  ),
  Format(
    "chosen and rejected lists",
    "preferences",
    pairs.are_lists_of_texts,
    pairs.lists_of_texts,
  ),
  Format(
    "TRL conversational preference (explicit prompt)",
    "preferences",
    pairs.are_answers_as_messages,
    pairs.answers,
    pair_scores.UNNEEDED,
  ),
  Format(
    "TRL conversational preference (implicit prompt)",
    "preferences",
    pairs.are_conversations,
    pairs.conversations,
    pair_scores.UNNEEDED,
  ),
  Format("HH-RLHF", "preferences", pairs.are_dialogues, pairs.dialogues, pair_scores.UNNEEDED),
  Format(
    "TRL preference (implicit prompt)",
    "preferences",
    pairs.lack_query,
    pairs.texts_with_shared_start,
    pair_scores.UNNEEDED,
  ),
  Format(
    "TRL preference (explicit prompt)",
    "preferences",
    pairs.has_sides,
    pairs.answers,
    pair_scores.UNNEEDED,
  ),
  Format(
    "two answers and a verdict",
    "preferences",
    two_answers.has_two_answers,
    two_answers.two_answers,
    frozenset({"individual_preference"}),
  ),
  Format("UltraFeedback", "preferences", k_wise.has_completions, k_wise.rated_objects),
  Format("answers as objects", "preferences", k_wise.has_objects, k_wise.rated_objects),
  Format("APO text and scores", "preferences", has("text", "scores"), k_wise.texts_with_separator),
  Format(
    "K-wise responses and scores", "preferences", k_wise.has_responses, k_wise.texts_and_scores
  ),
  Format(
    "APO golden",
    "demonstrations",
    has("golden"),
    one_answer.golden,
    frozenset({"golden_reward"}),
  ),
  Format("APO samples", "queries", has("query", "sample_0"), one_answer.query_alone),
  Format(
    "labelled conversation",
    "preferences",
    lambda columns: one_answer.is_conversation(columns) and one_answer.has_label(columns),
    one_answer.conversation,
  ),
  Format(
    "scored conversation",
    "preferences",
    lambda columns: one_answer.is_conversation(columns) and one_answer.has_score(columns),
    one_answer.conversation,
  ),
  Format("TRL conversation", "demonstrations", one_answer.is_conversation, one_answer.conversation),
  Format(
    "TRL unpaired preference",
    "preferences",
    lambda columns: _has_response(columns) and one_answer.has_label(columns),
    one_answer.query_and_response,
  ),
  Format(
    "scored responses",
    "preferences",
    lambda columns: _has_response(columns) and one_answer.has_score(columns),
    one_answer.query_and_response,
  ),
  Format(
    "AlpacaEval outputs",
    "demonstrations",
    has("instruction", "output"),
    one_answer.query_and_response,
  ),
  Format("query and response", "demonstrations", _has_response, one_answer.query_and_response),
  Format("query", "queries", lambda columns: any_of(columns, QUERY), one_answer.query_alone),
)


def format_of(row: RowView, kind: Kind) -> Format | None:
  """The format of a row by its columns that say something, else by all; None if it is unknown.

  Args:
    row: its columns are looked at, which does not count as reading them.
    kind: the records that are wanted; a format that gives them is preferred.

  Raises:
    BadRow: the row is in a layout that is known and not read.
  """
  said = {name: row.peek(name) for name in row.said}
  for names, advice in _REFUSED:
    if said.keys() >= names:
      raise BadRow("unknown form", f"it is a row of {advice}")
  form = _first(said)
  if form is not None and form.can_give(kind):
    return form
  # A table has every column in every row: one that is empty may be what the row lacks.
  there = {name: row.peek(name) for name in row if row.peek(name) is not None}
  other = _first(there)
  return other if other is not None and (form is None or other.can_give(kind)) else form


def parse_row(row: RowView, form: Format, kind: Kind) -> Candidate | tuple[Node, ...]:
  """What a row of a format says, of which nothing with a meaning is left unread.

  Raises:
    BadRow: the row is not as its format has it, holds too little, or says more than is read.
  """
  if not form.can_give(kind):
    if kind == "demonstrations":
      present(row, RESPONSE)
    raise BadRow("missing field", f"it is in {form.name} form, without responses that are compared")
  found = form.parse(row)
  for name in row.unread:
    part = None if name in form.unneeded else part_of(name)
    if part == "query" or (part == "answers" and kind != "queries"):
      own = row.own_name(name)
      raise BadRow(
        "unread column",
        f"its {own} may say something of the {part}, and {form.name} form does not read it; drop"
        f" the column or rename it (jq 'del(.{own})')",
      )
  return found


def _first(columns: Columns) -> Format | None:
  return next((form for form in FORMATS if form.detect(columns)), None)
