"""Each layer's rotary positions and window, as a checkpoint's config.json has them."""

import math
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from apo_jax.models.architecture import LayerKind, Rope
from apo_jax.models.hugging_face.fields import require

_FULL, _SLIDING = "full_attention", "sliding_attention"
# Families whose layers are all alike: a window, where there is one, is every layer's.
_ALIKE = ("llama", "mistral", "phi3", "olmo2", "granite")
_WITH_WINDOW = ("mistral", "phi3")
# Families whose windowed layers have rotary positions of their own.
_TWO_ROPES = ("gemma3_text", "olmo3")
_PARTIAL = ("phi3",)

# What `rope_parameters` may say for each kind, beside what every kind has.
_KEYS = {
  "default": (),
  "linear": ("factor",),
  "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
  "yarn": (
    *("factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
    "truncate",
  ),
  "longrope": ("factor", "attention_factor", "short_factor", "long_factor"),
}
_KEYS_OF_ALL = (
  *("rope_type", "type", "rope_theta", "partial_rotary_factor"),
  *("original_max_position_embeddings", "finetuned"),
)
_MOST = 1e15
_OLMO3_THETA = 500_000.0  # of windowed layers, for transformers 5, where the file has one for all


def layer_kinds(
  config: PreTrainedConfig, given: Mapping[str, Any], where: str
) -> tuple[LayerKind, ...]:
  """Each layer's rotary positions and window.

  Args:
    config: what the family's class in the `transformers` library makes of config.json.
    given: config.json.
    where: the config field and the file, for errors.

  Raises:
    ConfigError: for other kinds of layers, and other ways to stretch positions.
  """
  family, layers = config.model_type, config.num_hidden_layers
  types = getattr(config, "layer_types", None)
  if family in _ALIKE:
    windowed = family in _WITH_WINDOW and config.sliding_window
    types = [_SLIDING if windowed else _FULL] * layers
    named = given.get("layer_types")
    require(named in (None, types), where, "layer_types", named, f"of a {family} {types[0]} alone")
  with_rope = config.no_rope_layers if family == "smollm3" else [1] * layers
  require(len(types) == layers, where, "layer_types", types, f"a list of {layers}")
  require(len(with_rope) >= layers, where, "no_rope_layers", with_rope, f"a list of {layers}")
  if family == "olmo3" and "rope_theta" in given:
    theta = given["rope_theta"]
    require(
      theta == _OLMO3_THETA,
      where,
      "rope_theta",
      theta,
      f"{_OLMO3_THETA}, or both bases in rope_parameters (transformers 4 takes this one for every"
      " layer, transformers 5 not for those with a window)",
    )
  kinds = []
  for layer_type, has_rope in zip(types, with_rope[:layers], strict=True):
    known = layer_type in (_FULL, _SLIDING)
    require(known, where, "layer_types", layer_type, f"{_FULL}, {_SLIDING}")
    parameters = config.rope_parameters
    if family in _TWO_ROPES:
      parameters = parameters[layer_type]
    rope = _rope(parameters, config, where) if has_rope else None
    kinds.append(LayerKind(rope, _window(config, where) if layer_type == _SLIDING else 0))
  return tuple(kinds)


def rotary_dim(config: PreTrainedConfig, head_dim: int, where: str) -> int:
  """How many features of a head turn; 0 for all of them.

  Raises:
    ConfigError: only a part of them does, in a family that the library computes otherwise.
  """
  parameters = config.rope_parameters
  if config.model_type in _TWO_ROPES:
    factors = {one.get("partial_rotary_factor") or 1.0 for one in parameters.values()}
    part = next((factor for factor in factors if factor != 1.0), 1.0)
  else:
    part = parameters.get("partial_rotary_factor") or 1.0
  if part == 1.0:
    return 0
  require(config.model_type in _PARTIAL, where, "partial_rotary_factor", part, "1.0")
  features = int(head_dim * part) if isinstance(part, float) else 0
  fits = 0 < features <= head_dim and features % 2 == 0
  require(fits, where, "partial_rotary_factor", part, f"an even part of {head_dim} features")
  return features


def _window(config: PreTrainedConfig, where: str) -> int:
  window = config.sliding_window
  is_window = type(window) is int and window > 0
  require(is_window, where, "sliding_window", window, "a number of positions above 0")
  return window


def _rope(parameters: Mapping[str, Any], config: PreTrainedConfig, where: str) -> Rope:
  """The rotary positions of `rope_parameters`, or of an older file's `rope_scaling`."""
  kind = parameters["rope_type"]
  require(kind in _KEYS, where, "rope_type", kind, ", ".join(_KEYS))
  for key, value in parameters.items():
    known = key in _KEYS_OF_ALL or key in _KEYS[kind] or value is None or value is False
    allowed = ", ".join(_KEYS[kind]) or "rope_theta"
    require(known, where, f"{key} of its rope_parameters", value, f"of {kind} {allowed}")

  def number(key: str, default: float | None = None) -> float:
    value = parameters.get(key)
    value = default if value is None else value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_number = is_number and 0 < value < _MOST
    require(is_number, where, f"{key} of its rope_parameters", value, f"above 0, below {_MOST:g}")
    return float(value)

  theta = number("rope_theta")
  if kind == "default":
    return Rope(theta)
  if kind == "longrope":
    return _longrope(parameters, config, number, where)
  factor = number("factor")
  if kind == "linear":
    return Rope(theta, "linear", factor)
  length = int(number("original_max_position_embeddings"))
  if kind == "llama3":
    low, high = number("low_freq_factor"), number("high_freq_factor")
    above = f"above its low_freq_factor {low!r}"
    require(high > low, where, "high_freq_factor of its rope_parameters", high, above)
    return Rope(theta, "llama3", factor, low, high, length)
  amplitude = _yarn_amplitude(factor)
  if parameters.get("mscale") and parameters.get("mscale_all_dim"):
    own, every = number("mscale"), number("mscale_all_dim")
    amplitude = _yarn_amplitude(factor, own) / _yarn_amplitude(factor, every)
  return Rope(
    theta,
    "yarn",
    factor,
    low_frequency_factor=number("beta_slow", 1.0),
    high_frequency_factor=number("beta_fast", 32.0),
    original_length=length,
    whole_pairs=bool(parameters.get("truncate", True)),
    amplitude=number("attention_factor", amplitude),
  )


def _longrope(
  parameters: Mapping[str, Any], config: PreTrainedConfig, number: Any, where: str
) -> Rope:
  """The short factors: they hold up to the original length, beyond which nothing is read.

  Which factors the library takes goes by the longest row of a batch. A row would not have the same
  numbers in each, and a response that grows beyond the limit not those that it was sampled with.
  """
  length = int(number("original_max_position_embeddings"))
  name = "original_max_position_embeddings of its rope_parameters"
  require(length > 1, where, name, length, "a number above 1")
  factors = parameters["short_factor"]
  are_numbers = isinstance(factors, list) and all(
    type(one) in (int, float) and 0 < one < _MOST for one in factors
  )
  name = "short_factor of its rope_parameters"
  require(are_numbers, where, name, factors, "a list of numbers above 0")
  stretched = number("factor", config.max_position_embeddings / length)
  amplitude = math.sqrt(1 + math.log(stretched) / math.log(length)) if stretched > 1 else 1.0
  return Rope(
    number("rope_theta"),
    "longrope",
    original_length=length,
    factors=tuple(map(float, factors)),
    amplitude=number("attention_factor", amplitude),
  )


def _yarn_amplitude(factor: float, scale: float = 1.0) -> float:
  """What keeps attention as sharp over a context that is so much longer (arXiv 2309.00071)."""
  return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0
