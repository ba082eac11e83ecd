"""The stored tiny checkpoints of tests/golden/hugging_face, written out and read back."""

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from apo_jax.config.schema import ModelConfig
from apo_jax.models.hugging_face.config import Checkpoint, read_architecture
from apo_jax.models.hugging_face.names import TensorName
from tests.golden.hugging_face_weights import weights
from tests.tiny import ROOT

GOLDEN = ROOT / "tests" / "golden" / "hugging_face"
POLICIES = (
  "llama",
  "llama3",
  "smollm2",
  "smollm3",
  "mistral",
  "qwen2",
  "qwen3",
  "phi3",
  "olmo2",
  "olmo3",
  "granite",
  "gemma2",
  "gemma3_text",
)
# What OLMo 2 has, OLMo 3 has too.
# What these compute, others of the list compute too.
LIKE_OTHERS = ("llama", "smollm2", "mistral", "qwen2", "olmo2")
COMPILED = tuple(
  pytest.param(name, marks=pytest.mark.slow) if name in LIKE_OTHERS else name for name in POLICIES
)
REWARD = "llama_reward"
MODEL = ModelConfig(
  checkpoint="a checkpoint", shape=None, remat="none", compute_dtype="float32", attention="auto"
)
FIELD = "config.model.checkpoint"


@functools.cache
def golden(name: str) -> dict[str, Any]:
  """What transformers computed: config.json, tensors' shapes, tokens, logits, gradients."""
  return json.loads((GOLDEN / f"{name}.json").read_text())


def tensors(name: str) -> dict[str, np.ndarray]:
  """The weights of a case, by the names that transformers gave, float32."""
  case = golden(name)
  return {
    tensor: weights(tensor, tuple(shape), case["norm_center"])
    for tensor, shape in case["tensors"].items()
  }


def write(
  directory: Path,
  name: str,
  changed: Mapping[str, np.ndarray | None] | None = None,
  config: Mapping[str, object] | None = None,
) -> Path:
  """A checkpoint of a case; `changed` replaces or adds tensors, None removes one."""
  directory.mkdir(parents=True, exist_ok=True)
  (directory / "config.json").write_text(json.dumps(golden(name)["config"] | dict(config or {})))
  kept = {k: v for k, v in (tensors(name) | dict(changed or {})).items() if v is not None}
  save_file(kept, directory / "model.safetensors")
  return directory


def write_sharded(directory: Path, name: str, files: int = 3) -> Path:
  """The same in several files with an index."""
  write(directory, name)
  (directory / "model.safetensors").unlink()
  weight_map = {}
  everything = tensors(name)
  for number in range(files):
    file = f"model-{number + 1:05}-of-{files:05}.safetensors"
    part = {tensor: everything[tensor] for tensor in sorted(everything)[number::files]}
    save_file(part, directory / file)
    weight_map |= dict.fromkeys(part, file)
  index = {"metadata": {}, "weight_map": weight_map}
  (directory / "model.safetensors.index.json").write_text(json.dumps(index))
  return directory


def whole_tensors(names: Iterable[TensorName], tree: dict[str, Any]) -> dict[str, np.ndarray]:
  """A decoder's parameters, or what is shaped as they are, as the tensors of a checkpoint."""
  found = {}
  for name in names:
    leaf = functools.reduce(lambda tree, key: tree[key], name.path, tree)
    for layer, one in enumerate(leaf if name.stacked else [leaf]):
      whole = found.setdefault(name.name(layer), np.zeros(name.tensor_shape, np.float32))
      whole[name.part] = name.to_theirs(np.asarray(one))
  return found


def read(directory: Path) -> Checkpoint:
  """The checkpoint in a directory."""
  return read_architecture(directory, MODEL, FIELD)
