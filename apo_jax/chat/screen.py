"""How answers are shown: one below the user's turn, two side by side where there is room."""

import shutil
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from apo_jax.chat.session import Reply
from apo_jax.config.visible import is_seen

_WIDTH = 100  # columns, where there is no terminal that has some
_LEAST = 80  # columns for two answers side by side


def shown(replies: Sequence[Reply]) -> str:
  """Answers, each with what is said of it, as wide as the terminal."""
  width = shutil.get_terminal_size((_WIDTH, 1)).columns
  if len(replies) > 1 and width >= _LEAST:
    return _side_by_side(replies, width)
  lines = []
  for reply in replies:
    lines += [f"{reply.name}:"] if len(replies) > 1 else []
    lines += [_printable(reply.text), *([f"({reply.verdict})"] if reply.verdict else [])]
  return "\n".join(lines)


def _side_by_side(replies: Sequence[Reply], width: int) -> str:
  table = Table(box=box.SIMPLE_HEAD, expand=True, show_edge=False, pad_edge=False)
  for reply in replies:
    table.add_column(Text(reply.name), ratio=1)
  table.add_row(*(Text(_printable(reply.text)) for reply in replies))
  table.add_row(*(Text(f"({reply.verdict})" if reply.verdict else "") for reply in replies))
  console = Console(width=width, highlight=False)
  with console.capture() as captured:
    console.print(table)
  # It fills columns with blanks.
  return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _printable(text: str) -> str:
  """The whole text, without what would control a terminal."""
  return "".join(
    one if one in "\n\t" or is_seen(one) else "\N{REPLACEMENT CHARACTER}" for one in text
  )
