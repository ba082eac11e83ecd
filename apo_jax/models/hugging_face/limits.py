"""What the numbers of a config.json may be, checked before anything is made of them.

A stranger's file may name a billion layers, an infinite base of wavelengths or a norm's epsilon of
nothing: each would end in memory without end or in numbers that are none.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from apo_jax.config.fields import ConfigError

_MOST_POSITIONS = 2**31 - 1

# Whole numbers, each from 1 on: what no published model comes near.
_MOST = {
  "num_hidden_layers": 10_000,
  "num_attention_heads": 2**16,
  "num_key_value_heads": 2**16,
  "hidden_size": 2**20,
  "head_dim": 2**16,
  "intermediate_size": 2**24,
  "vocab_size": 2**24,
  "num_labels": 2**16,
  "max_position_embeddings": _MOST_POSITIONS,
  "original_max_position_embeddings": _MOST_POSITIONS,
  "sliding_window": _MOST_POSITIONS,
  "sliding_window_pattern": 10_000,
  "no_rope_layer_interval": 10_000,
}
# Numbers and the least and most that they may be.
_BETWEEN = {
  "rms_norm_eps": (1e-20, 1.0),
  "rope_theta": (2.0, 1e15),
  "rope_local_base_freq": (2.0, 1e15),
  "query_pre_attn_scalar": (1e-6, 1e9),
  "attention_multiplier": (1e-9, 1e9),
  "embedding_multiplier": (1e-9, 1e9),
  "residual_multiplier": (1e-9, 1e9),
  "logits_scaling": (1e-9, 1e9),
  "attn_logit_softcapping": (1e-3, 1e9),
  "final_logit_softcapping": (1e-3, 1e9),
}
# Numbers without limits of their own, as those that stretch positions, or that nothing reads.
_LARGEST = 1e18


def check_numbers(given: Mapping[str, Any], where: str) -> None:
  """Refuses what is no sane description of a model.

  Args:
    given: config.json, of which nothing is known yet.
    where: the config field and the file, for the error.

  Raises:
    ConfigError: for the first number out of its range, and for fields of another type that name
      the family and the class.
  """
  _check_names(given, where)
  for name, most in _MOST.items():
    value = given.get(name)
    # Of another type than a number, the family's class says what it must be.
    if _is_number(value) and not (isinstance(value, int) and 1 <= value <= most):
      if value == 0 and name == "sliding_window":
        continue  # there is none
      raise ConfigError(
        f"{where} has {name} {value!r}; supported: a whole number from 1 to {most:,}."
      )
  for name, value in _numbers(given):
    least, most = _BETWEEN.get(name.rpartition(".")[2], (-_LARGEST, _LARGEST))
    if not least <= value <= most:  # as of NaN
      raise ConfigError(
        f"{where} has {name} {value!r}; supported: a number from {least:g} to {most:g}."
      )


def _check_names(given: Mapping[str, Any], where: str) -> None:
  family, classes = given.get("model_type"), given.get("architectures")
  if family is not None and not isinstance(family, str):
    raise ConfigError(f"{where} has model_type {family!r}; it must be the name of a family.")
  are_names = isinstance(classes, list) and all(isinstance(one, str) for one in classes)
  if classes is not None and not are_names:
    raise ConfigError(f"{where} has architectures {classes!r}; it must be a list of names.")


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, int | float]]:
  """Every number with the dotted name of its field, in lists and objects too."""
  if _is_number(value):
    yield name, value
  elif isinstance(value, Mapping):
    for key, item in value.items():
      yield from _numbers(item, f"{name}.{key}" if name else str(key))
  elif isinstance(value, list):
    for item in value:
      yield from _numbers(item, name)


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)
