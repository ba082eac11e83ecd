"""Rotary positions in config.json, spelled for transformers 4 and 5 both."""

from collections.abc import Mapping
from typing import Any

# All that Phi 3's class of version 4 allows in a scaling.
_OF_PHI3 = ("type", "short_factor", "long_factor")
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
  if not parameters or (by_layer and not _can_be_old(config)):
    return dict(config)
  local = parameters.get("sliding_attention") if by_layer else None
  whole = parameters.get("full_attention") or {} if by_layer else parameters
  old: dict[str, Any] = {}
  if "rope_theta" in whole:
    old["rope_theta"] = whole["rope_theta"]
  scaling = {
    name: value
    for name, value in whole.items()
    if name not in ("rope_theta", "partial_rotary_factor")
  }
  if config.get("model_type") == "phi3" and scaling.get("rope_type") == "longrope":
    # Its class of version 4 refuses all but these, and has the length beside them.
    given = {"type": "longrope", **scaling}
    scaling = {name: given[name] for name in _OF_PHI3}
    if "original_max_position_embeddings" in given:
      old["original_max_position_embeddings"] = given["original_max_position_embeddings"]
  old["rope_scaling"] = (
    None if scaling.get("rope_type", scaling.get("type", "default")) == "default" else scaling
  )
  if local and "rope_theta" in local and _is_gemma(config):
    old[_LOCAL] = local["rope_theta"]
  if "partial_rotary_factor" in whole:
    old["partial_rotary_factor"] = whole["partial_rotary_factor"]
  return dict(config) | old


def _is_gemma(config: Mapping[str, Any]) -> bool:
  return str(config.get("model_type", "")).startswith("gemma3")


def _can_be_old(config: Mapping[str, Any]) -> bool:
  """Whether version 4 can say what each kind of layer does.

  Gemma 3 has a name for its local layers' wavelengths; in OLMo 3 both kinds have the same, and the
  sliding ones no scaling.
  """
  if _is_gemma(config):
    return True
  kinds = config["rope_parameters"]
  local, whole = kinds.get("sliding_attention"), kinds.get("full_attention")
  return (
    config.get("model_type") == "olmo3"
    and bool(local and whole)
    and local.get("rope_type", "default") == "default"
    and local.get("rope_theta") == whole.get("rope_theta")
  )
