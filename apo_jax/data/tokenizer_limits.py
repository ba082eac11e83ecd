"""What a stranger's tokenizer may be: no program, no text without end.

The libraries check its files' form. They do not check what it costs: a rule that writes a million
characters for one, a hundred thousand special tokens, a regular expression that never comes to an
end.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import transformers

from apo_jax.config.fields import ConfigError
from apo_jax.config.visible import visible

_CONFIG = "tokenizer_config.json"
_MIB = 2**20
# Bytes of files. The largest that are published have 34 MB, of 262,144 tokens.
_MOST_BYTES = {
  "tokenizer.json": 256 * _MIB,
  "tokenizer.model": 64 * _MIB,
  "vocab.json": 64 * _MIB,
  "merges.txt": 64 * _MIB,
  _CONFIG: 16 * _MIB,
  "special_tokens_map.json": 16 * _MIB,
  "added_tokens.json": 16 * _MIB,
  "chat_template.jinja": 4 * _MIB,
}
_MOST_ADDED = 50_000  # tokens; Gemma 3 adds 6,415
_ADDED = ("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens")
# By how much all rules together may lengthen a text: published ones write a blank's sign for it.
_MOST_WRITTEN = 1000


def check_files(directory: Path, what: str) -> None:
  """Refuses files that no tokenizer has, before the library reads them.

  Args:
    directory: of the tokenizer.
    what: names it in errors.

  Raises:
    ConfigError: one is no file, too large, or adds too many tokens.
  """
  for name, most in _MOST_BYTES.items():
    path = directory / name
    if not path.exists():
      continue
    where = f"{what} is {str(directory)!r}, whose {name}"
    if not path.is_file():  # a pipe would be waited for
      raise ConfigError(f"{where} is no file; it must be one, or not be there.")
    size = path.stat().st_size
    if size > most:
      raise ConfigError(f"{where} has {size:,} bytes; it must have at most {most:,}.")
  given = _read_config(directory)
  for name in _ADDED:
    added = given.get(name)
    if isinstance(added, list | dict) and len(added) > _MOST_ADDED:
      raise ConfigError(
        f"{what} is {str(directory)!r}, whose {_CONFIG} has {len(added):,} {name}; it must have at"
        f" most {_MOST_ADDED:,}."
      )


def has_code(directory: Path) -> bool:
  """Whether a tokenizer's files name code that would have to run (`auto_map`)."""
  return bool(_read_config(directory).get("auto_map"))


def check_tokenizer(tokenizer: transformers.PreTrainedTokenizerBase, what: str) -> None:
  """Refuses a tokenizer that was read, and would make too much of a text.

  Raises:
    ConfigError: its rules lengthen texts without measure, or it has too many added tokens.
  """
  added = len(tokenizer.added_tokens_decoder)
  if added > _MOST_ADDED:
    raise ConfigError(
      f"{what} is {tokenizer.name_or_path!r}, whose tokenizer adds {added:,} tokens; it must add at"
      f" most {_MOST_ADDED:,}."
    )
  inner = getattr(tokenizer, "backend_tokenizer", None)
  for part in ("normalizer", "decoder"):
    rules = getattr(inner, part, None)
    if rules is None:
      continue
    written = 1
    for length in _lengths(json.loads(rules.__getstate__())):
      written *= length
    if written > _MOST_WRITTEN:
      raise ConfigError(
        f"{what} is {tokenizer.name_or_path!r}, whose tokenizer.json has a {part} that may write"
        f" {written:,} characters for one; it must write at most {_MOST_WRITTEN:,}."
      )


@contextlib.contextmanager
def told_apart(tokenizer: transformers.PreTrainedTokenizerBase) -> Iterator[None]:
  """Makes a sentence of it where the tokenizer's own library breaks off.

  Raises:
    ConfigError: as it does at a regular expression of the tokenizer's that comes to no end.
  """
  try:
    yield
  except BaseException as error:
    # The library's panics are no Exception, and have no class that could be imported.
    if type(error).__name__ != "PanicException":
      raise
    raise ConfigError(
      f"The tokenizer {tokenizer.name_or_path!r} breaks off at a text ({visible(str(error), 200)});"
      " give another, or mend its tokenizer.json."
    ) from error


def _lengths(rules: Any) -> Iterator[int]:
  """The characters that each rule of a normalizer or decoder may write for one."""
  if isinstance(rules, Mapping):
    for name in ("content", "prepend"):
      if isinstance(rules.get(name), str) and rules.get("type") in ("Replace", "Prepend"):
        yield max(1, len(rules[name]))
    for value in rules.values():
      yield from _lengths(value)
  elif isinstance(rules, list):
    for value in rules:
      yield from _lengths(value)


def _read_config(directory: Path) -> dict[str, Any]:
  """tokenizer_config.json, where it is one; what is wrong with it, the library says."""
  try:
    given = json.loads((directory / _CONFIG).read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError):
    return {}
  return given if isinstance(given, dict) else {}
