"""The adapter folders of tests/golden/adapters.json, written out."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.golden.hugging_face_weights import weights
from tests.tiny import ROOT

FILE = ROOT / "tests" / "golden" / "adapters.json"
BASE = "llama"  # the case of hugging_face/ that all of them change


@functools.cache
def cases() -> dict[str, Any]:
  """What peft wrote of each, and what it merged."""
  return json.loads(FILE.read_text())["cases"]


def made(name: str) -> dict[str, np.ndarray]:
  """The tensors of a case, by the names that peft gave, float32."""
  return {one: weights(one, tuple(shape), 0.0) for one, shape in cases()[name]["tensors"].items()}


def write(
  directory: Path,
  name: str,
  base: Path | str,
  *,
  settings: Mapping[str, object] | None = None,
  tensors: Mapping[str, np.ndarray | None] | None = None,
) -> Path:
  """A folder of a case; `settings` and `tensors` are changed in it, None removes a tensor."""
  directory.mkdir(parents=True, exist_ok=True)
  given = cases()[name]["config"] | {"base_model_name_or_path": str(base)} | dict(settings or {})
  (directory / "adapter_config.json").write_text(json.dumps(given))
  changed = made(name) | dict(tensors or {})
  kept = {one: value for one, value in changed.items() if value is not None}
  save_file(kept, directory / "adapter_model.safetensors")
  return directory
