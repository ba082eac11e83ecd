"""What --help says of a config: every field, what it may hold, its default and what it means.

What a field means stands beside it in the source: as a comment, behind the field or above it, or in
the `Attributes` of its class.
"""

import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any

from apo_jax.config.fields import allowed, field_hints, kind_of, optional_section

_WIDTH = 80
_ATTRIBUTE = re.compile(r"^    (\w+): ")


def config_help(config: Any, path: str = "config") -> str:
  """The fields of a config, section by section, with its values as defaults, as lines of text."""
  return "\n".join(_section(type(config), path, "", config))


def field_docs(dataclass: type) -> dict[str, str]:
  """What the fields of a dataclass mean, in the words of its source; "" where it says nothing."""
  docs: dict[str, str] = {}
  for one in reversed(dataclass.__mro__):
    if dataclasses.is_dataclass(one):
      docs |= _own_docs(one)
  return docs


def _own_docs(dataclass: type) -> dict[str, str]:
  """The same of the fields that a class adds to those that it is derived from."""
  source = textwrap.dedent(inspect.getsource(dataclass))
  comments = _comments(source)
  attributes = _attributes(inspect.getdoc(dataclass) or "")
  docs = {}
  for node in ast.parse(source).body[0].body:
    if isinstance(node, ast.AnnAssign):
      above, line = [], node.lineno - 1
      while comments.get(line, ("", False))[1]:
        above.insert(0, comments[line][0])
        line -= 1
      # Behind the field, or where it takes several lines, behind any of them.
      beside = [comments[n][0] for n in range(node.lineno, node.end_lineno + 1) if n in comments]
      docs[node.target.id] = " ".join([*above, *beside]) or attributes.get(node.target.id, "")
  return docs


def _comments(source: str) -> dict[int, tuple[str, bool]]:
  """The comments by line, and whether each is all of its line."""
  tokens = tokenize.generate_tokens(io.StringIO(source).readline)
  return {
    token.start[0]: (token.string.lstrip("# "), token.line.lstrip().startswith("#"))
    for token in tokens
    if token.type == tokenize.COMMENT
  }


def _attributes(docstring: str) -> dict[str, str]:
  """What the `Attributes` of a docstring say."""
  _, _, listed = f"\n{docstring}".partition("\nAttributes:\n")
  found: dict[str, str] = {}
  name = ""
  for line in listed.splitlines():
    start = _ATTRIBUTE.match(f"  {line}")
    if start:
      name, line = start[1], line[start.end() - 2 :]
    if name:
      found[name] = f"{found.get(name, '')} {line.strip()}".strip()
  return found


def _section(dataclass: type, path: str, said: str, defaults: Any) -> Iterator[str]:
  """The lines of a section.

  Args:
    dataclass: the section's.
    path: the section's.
    said: what stands beside the field that holds it.
    defaults: the section as the config has it, None where it is left out.
  """
  about = " ".join((inspect.getdoc(dataclass) or "").split("\n\n")[0].split())
  yield ""
  yield from _filled(f"{path}: {about}{f' ({said})' if said else ''}", 0)
  docs, sections = field_docs(dataclass), []
  for field in dataclasses.fields(dataclass):
    hint, place = field_hints(dataclass)[field.name], f"{path}.{field.name}"
    default = field.default if defaults is None else getattr(defaults, field.name)
    kind = kind_of(hint)
    section = hint if dataclasses.is_dataclass(hint) and not kind else optional_section(hint)
    if section:
      sections.append((section, place, docs[field.name], default))
      continue
    yield f"  --{place}{_shown(default, is_choice=kind is not None)}"
    yield from _filled("; ".join(filter(None, (allowed(hint), docs[field.name]))), 6)
    choices = kind.known.items() if kind else ()
    sections += [(one, f"{path}.{name}", "", None) for name, one in sorted(choices)]
  for one in sections:
    yield from _section(*one)


def _shown(default: Any, *, is_choice: bool) -> str:
  """'=VALUE' as a flag gives it; nothing where a field has no default."""
  if default is dataclasses.MISSING:
    return ""
  if is_choice:
    default = tuple(one.name for one in default) if isinstance(default, tuple) else default.name
  return f"={default!r}" if isinstance(default, tuple) or default == "" else f"={default}"


def _filled(text: str, indent: int) -> list[str]:
  blanks = " " * indent
  return textwrap.wrap(
    text, _WIDTH, initial_indent=blanks, subsequent_indent=blanks, break_on_hyphens=False
  )
