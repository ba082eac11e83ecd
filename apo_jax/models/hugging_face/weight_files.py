"""Which files hold a checkpoint's weights, as the `transformers` library chooses them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from safetensors import SafetensorError, safe_open

INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILE = "model.safetensors"

# Weights that are no safetensors. They are never read: most are pickles, which may run code.
_OTHER_KINDS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack")
_CONVERT = (
  "python -c \"import transformers; transformers.AutoModel{kind}.from_pretrained('{folder}', "
  "dtype='auto').save_pretrained('NEW_DIRECTORY')\""
)

Fail = Callable[[str], NoReturn]


def open_weights(directory: Path, is_reward: bool, fail: Fail) -> dict[str, safe_open]:
  """The file of each tensor; every file is opened, none is read.

  `model.safetensors` is taken where there is one, whatever an index beside it says, as in
  transformers (`has_unused_index`).

  Args:
    directory: of the checkpoint.
    is_reward: which class converts other files, for errors.
    fail: raises an error that ends in the given words.
  """
  files: dict[str, safe_open] = {}
  for path, tensors in _paths(directory, is_reward, fail).items():
    file = open_file(path, fail)
    present = set(file.keys())
    for name in sorted((tensors or present) - present):
      fail(f"whose {INDEX_FILE} says that {path.name} has {name}, but it has not")
    files |= dict.fromkeys(present, file)
  return files


def has_unused_index(directory: Path) -> bool:
  """Whether there is an index beside the one file that holds everything."""
  return (directory / WEIGHTS_FILE).exists() and (directory / INDEX_FILE).exists()


def open_file(path: Path, fail: Fail) -> safe_open:
  """One safetensors file; its header must be whole, and the file as long as it says."""
  if not path.is_file():  # a pipe would be waited for
    fail(f"whose {path.name} is no file")
  try:
    return safe_open(path, framework="numpy")
  except (SafetensorError, OSError) as error:
    fail(f"whose {path.name} cannot be read ({error})")


def _paths(directory: Path, is_reward: bool, fail: Fail) -> dict[Path, set[str] | None]:
  """The files, and of each the tensors that it should have where an index says so."""
  if (directory / WEIGHTS_FILE).exists():
    return {directory / WEIGHTS_FILE: None}
  index = directory / INDEX_FILE
  if not index.exists():
    fail(_without_weights(directory, is_reward))
  paths: dict[Path, set[str] | None] = {}
  try:
    for tensor, file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items():
      paths.setdefault(directory / file, set()).add(tensor)
  except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
    fail(f"whose {INDEX_FILE} is not a JSON object with a weight_map")
  for path in paths:
    # A stranger's index must not choose among the files of whoever reads it.
    if path.parent != directory or path.name == "..":
      fail(f"whose {INDEX_FILE} names {str(path)!r}; it must name files beside it")
    if not path.exists():
      fail(f"whose {INDEX_FILE} names {path.name}, which is not there")
  return paths


def _without_weights(directory: Path, is_reward: bool) -> str:
  """What there is in the place of the weights, and what to do about it."""
  problem = f"which has neither {WEIGHTS_FILE} nor {INDEX_FILE}"
  tensors = sorted(path.name for path in directory.glob("*.safetensors"))
  if tensors:
    return (
      f"{problem}, only {_listed(tensors)}; one file must have the first name, several the index"
    )
  others = sorted(path.name for kind in _OTHER_KINDS for path in directory.glob(kind))
  if others:
    problem += f", only {_listed(others)}, which are not read"
  kind = "ForSequenceClassification" if is_reward else "ForCausalLM"
  return (
    f"{problem}; where PyTorch is installed, {_CONVERT.format(kind=kind, folder=directory)}"
    + (" writes weights of other kinds as safetensors")
  )


def _listed(names: list[str]) -> str:
  return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
