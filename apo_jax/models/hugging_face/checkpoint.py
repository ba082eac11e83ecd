"""What a Hugging Face checkpoint is made of."""

import dataclasses
from pathlib import Path
from typing import Any

from apo_jax.models.architecture import Architecture
from apo_jax.models.hugging_face.adapters import Adapter

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"

# What OpenRLHF calls its reward models, whose head has no bias either.
OPENRLHF_CLASSES = ("RewardModel", "LLMForSequenceRegression")

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A Hugging Face checkpoint that can be imported.

  Attributes:
    directory: of config.json, safetensors and tokenizer files.
    adapter: what is merged into the weights there, from a folder of its own.
    positions: tokens of the longest sequence that it was made for.
    renamed: its files have other names for tensors than transformers.
    notes: what it has that is read in another way than it stands there, or not at all; sentences.
    family: its "model_type", one of `hugging_face_names.FAMILIES`.
    architecture: of its decoder.
    is_reward: it is a sequence classifier of one label, and has no language-model head.
    hf_config: config.json as it is, or what it says of a text part.
    is_text_part: it is the text part of a checkpoint of images and text.
  """

  directory: Path
  family: str
  architecture: Architecture
  is_reward: bool
  hf_config: dict[str, Any]
  positions: int | None = None
  adapter: Adapter | None = None
  renamed: bool = False
  notes: tuple[str, ...] = ()
  is_text_part: bool = False

  @property
  def directories(self) -> tuple[Path, ...]:
    """All that it is made of: its own directory, then that of adapters."""
    return (self.directory,) + (() if self.adapter is None else (self.adapter.directory,))

  @property
  def tokenizer_directory(self) -> Path:
    """Where its tokenizer is: beside the adapters where one is there."""
    return self._directory_of(_TOKENIZER_FILES)

  @property
  def generation_directory(self) -> Path:
    """The same of its generation_config.json."""
    return self._directory_of((GENERATION_FILE,))

  @property
  def reads_the_end(self) -> bool:
    """A reward model that reads eos, even where it pads with it: OpenRLHF goes by its mask."""
    classes = self.hf_config.get("architectures") or [""]
    return self.is_reward and classes[0] in OPENRLHF_CLASSES

  def where(self, field: str) -> str:
    """What errors begin with; `field` named it."""
    return describe_place(field, self.directory, self.adapter)

  def _directory_of(self, names: tuple[str, ...]) -> Path:
    last = self.directories[-1]
    return last if any((last / name).exists() for name in names) else self.directory


def describe_place(field: str, directory: Path, adapter: Adapter | None) -> str:
  """The field and where its checkpoint is, for the beginning of an error."""
  if adapter is None:
    return f"{field} is {str(directory)!r}"
  return f"{field} is {str(adapter.directory)!r}, adapters whose base is {str(directory)!r}"
