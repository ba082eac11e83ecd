"""Rotary positions in config.json, spelled for transformers 4 and 5 both."""

from collections.abc import Mapping
from typing import Any

# Gemma 3's base of the layers that see a window, as version 4 calls it.
_LOCAL = "rope_local_base_freq"


def with_both_ropes(config: Mapping[str, Any]) -> dict[str, Any]:
  """The config with what version 4 reads, `rope_theta` and `rope_scaling`, beside version 5's.

  Version 4 does not look at `rope_parameters`: without the old spelling it would take its own
  default for the wavelengths, and compute something else without a word. Version 5 reads the old
  spelling where there is one.
  """
  parameters = config.get("rope_parameters")
  by_layer = bool(parameters) and any(isinstance(one, Mapping) for one in parameters.values())
  is_gemma = str(config.get("model_type", "")).startswith("gemma3")
  if not parameters or (by_layer and not is_gemma):
    return dict(config)
  local = parameters.get("sliding_attention") if by_layer else None
  whole = parameters.get("full_attention") or {} if by_layer else parameters
  old: dict[str, Any] = {}
  if "rope_theta" in whole:
    old["rope_theta"] = whole["rope_theta"]
  scaling = {name: value for name, value in whole.items() if name != "rope_theta"}
  old["rope_scaling"] = None if scaling.get("rope_type", "default") == "default" else scaling
  if local and "rope_theta" in local:
    old[_LOCAL] = local["rope_theta"]
  if "partial_rotary_factor" in whole:
    old["partial_rotary_factor"] = whole["partial_rotary_factor"]
  return dict(config) | old
