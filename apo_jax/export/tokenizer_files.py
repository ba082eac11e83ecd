"""A tokenizer's files, as transformers 4 and 5 and what is built on them read them alike."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import transformers

from apo_jax.logs.files import read_json, write_json

CONFIG_FILE = "tokenizer_config.json"
SENTENCEPIECE_FILE = "tokenizer.model"

# Any version's name of a tokenizer that is what its tokenizer.json says, and nothing else.
_GENERIC = "PreTrainedTokenizerFast"
_INPUTS = ("input_ids", "attention_mask")
# What version 5 says of how it was loaded here.
_NOT_KEPT = ("backend", "is_local", "local_files_only", "processor_class", "auto_map")


def save_tokenizer(
  tokenizer: transformers.PreTrainedTokenizerBase, directory: Path, sources: Iterable[Path] = ()
) -> None:
  """Writes a tokenizer that other tools read with the very same ids.

  Args:
    tokenizer: any.
    directory: there must be one.
    sources: directories that the tokenizer was read from. The first tokenizer.model of theirs is
      copied: for some families it is what llama.cpp's converter reads.
  """
  tokenizer.save_pretrained(directory)
  path = directory / CONFIG_FILE
  is_fast = (directory / "tokenizer.json").exists()
  write_json(path, portable_config(read_json(path), is_fast=is_fast))
  found = [source / SENTENCEPIECE_FILE for source in sources]
  found = [file for file in found if file.exists()]
  if found and not (directory / SENTENCEPIECE_FILE).exists():
    shutil.copyfile(found[0], directory / SENTENCEPIECE_FILE)


def portable_config(config: dict[str, Any], *, is_fast: bool) -> dict[str, Any]:
  """tokenizer_config.json in the spelling that versions 4 and 5 of transformers share.

  Version 4 does not know the class names of version 5, and takes `extra_special_tokens` for names
  and their tokens; a list of tokens is `additional_special_tokens` in both. The classes of single
  families make parts of the tokenizer anew, each version others: the generic one, which reads
  tokenizer.json as it is, gives the same ids everywhere.

  Args:
    config: as version 5 saves it.
    is_fast: there is a tokenizer.json.
  """
  kept = {name: value for name, value in config.items() if name not in _NOT_KEPT}
  extra = kept.pop("extra_special_tokens", None)
  named = kept.pop("model_specific_special_tokens", None)
  if extra and not isinstance(extra, dict):
    kept["additional_special_tokens"] = list(extra)
  named = named or (extra if isinstance(extra, dict) else None)
  if named:
    kept["extra_special_tokens"] = named
  if is_fast:
    kept["tokenizer_class"] = _GENERIC
    # In version 4 the generic class adds token types otherwise, which no decoder takes.
    kept["model_input_names"] = list(_INPUTS)
  return kept
