"""Dialogues as trees, a message a row or a tree a row (OpenAssistant): siblings are ranked answers.

The card: rank 0 is the best of the replies to one message (arXiv 2304.07327).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from apo_jax.data.answers import canonical, response_of_messages
from apo_jax.data.bad_rows import BadRow
from apo_jax.data.candidates import Candidate, scores_of
from apo_jax.data.columns import RowView
from apo_jax.data.dialogue import Message, Role
from apo_jax.data.formats.groups import Group
from apo_jax.data.values import field, number_of, shown, text_of

_ROLES: dict[str, Role] = {"prompter": "user", "user": "user", "assistant": "assistant"}


class Node(NamedTuple):
  """One message of a tree.

  Attributes:
    key: its id.
    parent: the id of the message that it answers; None of the first.
    message: role and text.
    rank: its place among the replies to the same message, the best lowest; None where not ranked.
  """

  key: str
  parent: str | None
  message: Message
  rank: float | None


def node_of_row(row: RowView) -> tuple[Node, ...]:
  """The message of a row of oasst1 and oasst2."""
  return (_node(row, row.get("parent_id")),)


def nodes_of_tree(row: RowView) -> tuple[Node, ...]:
  """The messages of a row that holds a whole tree, each below the one that it answers."""
  return tuple(_below(field(row, "prompt"), None))


def join_nodes(nodes: Iterable[tuple[int, Node]]) -> list[Group]:
  """A candidate for every message of a user, its replies as responses.

  Args:
    nodes: the messages of a whole file, each with the number of its row.
  """
  by_key: dict[str, tuple[int, Node]] = {}
  groups: list[Group] = []
  for number, node in nodes:
    if node.key in by_key:
      groups.append(
        Group((number,), BadRow("contradiction", f"its message_id {node.key!r} is another's"))
      )
    else:
      by_key[node.key] = (number, node)
  replies: dict[str, list[tuple[int, Node]]] = {}
  for number, node in by_key.values():
    if node.message.role == "assistant":
      if node.parent not in by_key or by_key[node.parent][1].message.role != "user":
        problem = f"its parent_id is {node.parent!r}, which is no message of a user"
        groups.append(Group((number,), BadRow("missing field", problem)))
      else:
        replies.setdefault(node.parent, []).append((number, node))
  for number, node in by_key.values():
    if node.message.role == "user":
      own = replies.get(node.key, [])
      numbers = (number, *(reply for reply, _ in own))
      try:
        groups.append(Group(numbers, _candidate(node, [reply for _, reply in own], by_key)))
      except BadRow as error:
        groups.append(Group(numbers, error))
  return groups


def _candidate(
  node: Node, replies: Sequence[Node], by_key: Mapping[str, tuple[int, Node]]
) -> Candidate:
  ranked = [reply for reply in replies if reply.rank is not None]
  if ranked:
    replies = ranked
  unfit = None
  if len(replies) > 1 and not ranked:
    unfit = BadRow("missing field", f"the {len(replies)} replies to it have no rank")
  query = canonical(_dialogue(node, by_key), "text")
  responses = tuple(response_of_messages([reply.message], "text") for reply in replies)
  scores = scores_of([-(reply.rank or 0.0) for reply in replies], len(replies))
  return Candidate(node.key, query, responses, scores, unfit)


def _dialogue(node: Node, by_key: Mapping[str, tuple[int, Node]]) -> list[Message]:
  turns, seen = [node.message], {node.key}
  while node.parent is not None:
    if node.parent not in by_key or node.parent in seen:
      raise BadRow("missing field", f"its parent_id {node.parent!r} is no message of the file")
    seen.add(node.parent)
    node = by_key[node.parent][1]
    turns.append(node.message)
  return turns[::-1]


def _below(message: Any, parent: str | None) -> Iterator[Node]:
  # A tree may be deeper than Python's stack.
  waiting = [(message, parent)]
  while waiting:
    message, parent = waiting.pop()
    if not isinstance(message, Mapping):
      raise BadRow("wrong field", f"a message of its tree is {shown(message)}")
    node = _node(message, parent)
    yield node
    waiting += [(reply, node.key) for reply in message.get("replies") or ()]


def _node(row: Mapping[str, Any], parent: Any) -> Node:
  key, role = field(row, "message_id"), field(row, "role")
  if row.get("deleted") is True:
    raise BadRow("unwanted response", "its message was deleted")
  if role not in _ROLES:
    raise BadRow("wrong turns", f"it has a message of the role {shown(role)}")
  rank = row.get("rank")
  value = number_of(rank)
  # A table writes a missing number as one that is none.
  if rank is not None and rank == rank and value is None:
    raise BadRow("wrong scores", f"rank is {shown(rank)}; it must be a number")
  text = text_of(field(row, "text"), "text")
  parent = None if parent is None or parent == "" or parent != parent else str(parent)
  return Node(str(key), parent, Message(_ROLES[role], text), value)
