"""The model of a benchmark as JSON, and the architecture and adapters that it describes."""

from collections.abc import Mapping
from typing import Any

from apo_jax.config.schema import LoraConfig, ModelConfig, ShapeConfig
from apo_jax.models.architecture import Architecture, architecture_from_shape


def architecture(model: Mapping[str, Any]) -> Architecture:
  """Of `settings.model`; fields of `ModelConfig` may stand beside it in `fields`."""
  config = ModelConfig(
    checkpoint="",
    shape=ShapeConfig(**model["shape"]),
    remat=model["remat"],
    compute_dtype=model["dtype"],
    attention=model.get("attention", "auto"),
    **model.get("fields", {}),
  )
  return architecture_from_shape(config, model["vocab_size"])


def adapters(model: Mapping[str, Any]) -> LoraConfig | None:
  """Those of `model["adapters"]`, fields of `LoraConfig`; None where every weight is trained."""
  if "adapters" not in model:
    return None
  given = dict(model["adapters"])
  return LoraConfig(**given | {"modules": tuple(given["modules"])})  # JSON has no tuples
