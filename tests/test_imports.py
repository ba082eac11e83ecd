"""Imports go one way: every folder of the package stands on a floor and reads those below alone."""

import ast
from pathlib import Path

import pytest

from tests.tiny import ROOT

PACKAGE = ROOT / "apo_jax"
# From the top down. What shares a floor knows nothing of each other.
FLOORS = (
  ("sweep", "chat"),
  ("main", "plan", "export", "compare", "evaluate", "preview", "branch", "replay"),
  ("game",),
  ("phases", "report"),
  ("run", "reward_step", "policy_step"),
  ("inference", "training"),
  ("models",),
  ("data",),
  ("rows",),
  ("logs", "devices"),
  ("config",),
  ("evaluation",),
  ("objectives",),
)


def room(module: str) -> str:
  """The folder, or top-level module, that a module of the package lies in."""
  return module.split(".")[1]


def imported(path: Path) -> set[str]:
  """The modules of the package that a file imports, wherever in it."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module == "apo_jax":
      found |= {f"apo_jax.{name.name}" for name in node.names}
    elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("apo_jax."):
      found.add(node.module)
    elif isinstance(node, ast.Import):
      found |= {name.name for name in node.names if name.name.startswith("apo_jax.")}
  return found


def modules() -> dict[str, Path]:
  """Every module of the package below its own __init__, by its dotted name."""
  return {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
  }


def test_every_room_has_a_floor():
  assert {room(module) for module in modules()} == {name for floor in FLOORS for name in floor}


@pytest.mark.parametrize("module", modules())
def test_imports_go_down(module):
  floor = {name: number for number, names in enumerate(FLOORS) for name in names}
  here = room(module)
  wrong = [
    other
    for other in imported(modules()[module])
    if room(other) != here and floor[room(other)] <= floor[here]
  ]
  assert not wrong, f"{module} must not import {', '.join(wrong)}"
