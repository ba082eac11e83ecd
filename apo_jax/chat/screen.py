"""How answers are shown: one below the user's turn, two side by side where there is room."""

import shutil
import unicodedata
from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from apo_jax.chat.session import Reply

_WIDTH = 100  # columns, where there is no terminal that has some
_LEAST = 80  # columns for two answers side by side


def show(replies: Sequence[Reply], output: TextIO) -> None:
  """Writes answers, each with what is said of it, and an empty line."""
  width = shutil.get_terminal_size((_WIDTH, 1)).columns
  if len(replies) > 1 and width >= _LEAST:
    _side_by_side(replies, output, width)
  else:
    for reply in replies:
      named = [f"{reply.name}:"] if len(replies) > 1 else []
      verdict = [f"({reply.verdict})"] if reply.verdict else []
      print(*named, _printable(reply.text), *verdict, sep="\n", file=output)
  print(file=output, flush=True)


def _side_by_side(replies: Sequence[Reply], output: TextIO, width: int) -> None:
  table = Table(box=box.SIMPLE_HEAD, expand=True, show_edge=False, pad_edge=False)
  for reply in replies:
    table.add_column(Text(reply.name), ratio=1)
  table.add_row(*(Text(_printable(reply.text)) for reply in replies))
  table.add_row(*(Text(f"({reply.verdict})" if reply.verdict else "") for reply in replies))
  console = Console(file=output, width=width, highlight=False)
  with console.capture() as captured:
    console.print(table)
  lines = captured.get().splitlines()
  print(*(line.rstrip() for line in lines), sep="\n", file=output)  # it fills columns with blanks


def _printable(text: str) -> str:
  """The text without what would control a terminal."""
  return "".join(
    "\N{REPLACEMENT CHARACTER}" if unicodedata.category(one) == "Cc" and one not in "\n\t" else one
    for one in text
  )
