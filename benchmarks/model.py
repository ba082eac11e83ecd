"""The model of a benchmark as JSON, and the architecture that it describes."""

from collections.abc import Mapping
from typing import Any

from apo_jax.config.schema import ModelConfig, ShapeConfig
from apo_jax.models.architecture import Architecture, architecture_from_shape


def architecture(model: Mapping[str, Any]) -> Architecture:
  """Of `settings.model`."""
  config = ModelConfig(
    checkpoint="",
    shape=ShapeConfig(**model["shape"]),
    remat=model["remat"],
    compute_dtype=model["dtype"],
    attention="auto",
  )
  return architecture_from_shape(config, model["vocab_size"])
