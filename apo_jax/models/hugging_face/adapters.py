"""Adapter folders of the `peft` library as checkpoints: merged into their base as they are read.

A weight W [outputs, inputs] becomes W + scale * B A in float32, where scale is alpha / rank, or
alpha / sqrt(rank) by `use_rslora` (arXiv 2312.03732); of an embedding [tokens, features] it is the
transpose that changes so. Modules that were trained whole (`modules_to_save`) take the place of the
base's. Everything else that an adapter_config.json can say is refused by its name.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import regex
from jaxtyping import Num

from apo_jax.config.fields import ConfigError
from apo_jax.models.hugging_face.json_files import read_json
from apo_jax.models.hugging_face.weight_files import WEIGHTS_FILE, Fail, open_file

ADAPTER_CONFIG_FILE = "adapter_config.json"
ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_LARGEST = 1e6  # rank or alpha
_SECONDS = 1.0  # for a stranger's regular expression on one name: some would take years
# Where PEFT puts the adapter's own name and that of a copy, which its files leave out, or once had.
# A table that has adapters is stored whole beside them, as `base_layer`.
_OWN_PARTS = frozenset(("default", "modules_to_save", "base_layer"))
_PAIRS = (  # left and right factor of the change, as PEFT calls them
  ("lora_B.weight", "lora_A.weight"),
  ("lora_embedding_A", "lora_embedding_B"),
)
# What needs no answer here: the tensors say it, or it concerns training alone.
_HARMLESS = frozenset(
  (
    *("peft_type", "peft_version", "task_type", "auto_mapping", "inference_mode", "revision"),
    *("base_model_name_or_path", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern"),
    *("alpha_pattern", "target_modules", "exclude_modules", "modules_to_save", "bias"),
    *("init_lora_weights", "layers_to_transform", "layers_pattern", "megatron_config"),
    *("megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
    *("qalora_group_size", "runtime_config", "ensure_weight_tying"),
  )
)
# Beginnings that leave the base as it is. The others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) change
# it, so that the adapters fit another base than the one that is named.
_PLAIN_BEGINNINGS = (True, False, "gaussian", "eva", "orthogonal")
_MERGE = (
  "merge them where they were made: merge_and_unload of peft, then save_pretrained of the result"
)


@dataclasses.dataclass(frozen=True)
class Adapter:
  """An adapter folder.

  Attributes:
    directory: of adapter_config.json and adapter_model.safetensors.
    base: the checkpoint that it changes, as the file names it.
    settings: adapter_config.json as it is.
  """

  directory: Path
  base: str
  settings: dict[str, Any]

  def scale(self, module: str, rank: int) -> float:
    """By which a module's change is multiplied."""
    alpha = _by_pattern(self.settings.get("alpha_pattern"), module, self.settings["lora_alpha"])
    return float(alpha) / (rank**0.5 if self.settings.get("use_rslora") else rank)

  def rank(self, module: str) -> int:
    """Of a module's change, as the file says."""
    return int(_by_pattern(self.settings.get("rank_pattern"), module, self.settings["r"]))


def read_adapter(directory: Path, field: str) -> Adapter | None:
  """The adapter folder in `directory`, None where it holds a whole model.

  Raises:
    ConfigError: it holds both, or adapters of a kind that cannot be merged; it names the kind.
  """
  if not (directory / ADAPTER_CONFIG_FILE).exists():
    return None
  settings = read_json(directory / ADAPTER_CONFIG_FILE, field)
  where = f"{field} is {str(directory)!r}, whose {ADAPTER_CONFIG_FILE}"
  if (directory / WEIGHTS_FILE).exists():
    raise ConfigError(
      f"{field} is {str(directory)!r}, which holds adapters, {ADAPTER_CONFIG_FILE}, and a whole"
      f" model, {WEIGHTS_FILE}; leave one of them there."
    )
  _require(settings.get("peft_type") == "LORA", where, "peft_type", settings, "LORA")
  task = settings.get("task_type")
  _require(
    task in (None, "CAUSAL_LM", "SEQ_CLS"), where, "task_type", settings, "CAUSAL_LM, SEQ_CLS"
  )
  _require(settings.get("bias", "none") == "none", where, "bias", settings, "none")
  beginning = settings.get("init_lora_weights", True)
  _require(beginning in _PLAIN_BEGINNINGS, where, "init_lora_weights", settings, "true, gaussian")
  for name in ("r", "lora_alpha"):
    _require(_is_size(settings.get(name)), where, name, settings, "a number above 0")
  for name in ("rank_pattern", "alpha_pattern"):
    _require(_is_pattern(settings.get(name)), where, name, settings, "numbers by module names")
  for name in settings:
    # A variant is another computation, whichever it is.
    _require(name in _HARMLESS or not settings[name], where, name, settings, "none of it")
  base = settings.get("base_model_name_or_path")
  if not base or not isinstance(base, str):
    raise ConfigError(
      f"{where} has base_model_name_or_path {base!r}; it must be the directory or hub name of the"
      " model that the adapters change."
    )
  return Adapter(directory, base, settings)


def base_name(adapter: Adapter) -> str:
  """Where the base is looked for: a directory beside the folder counts, as does the hub.

  A path that is not absolute is one from the working directory, as in peft, or else from the
  folder itself.
  """
  beside = adapter.directory / adapter.base
  is_here = os.path.isdir(adapter.base)
  if not is_here and os.path.isdir(beside):
    return str(beside)
  revision = adapter.settings.get("revision")
  on_hub = not is_here and "@" not in adapter.base
  return f"{adapter.base}@{revision}" if revision and on_hub else adapter.base


class _Change(NamedTuple):
  """scale * left @ right, [rows, columns] of the tensor.

  `left` and `right` are stored names; where `transposed` the files hold their transposes.
  """

  left: str
  right: str
  scale: float
  transposed: bool


class Changes:
  """What an adapter folder does to its base's tensors. Making one checks names, shapes, types."""

  def __init__(
    self,
    adapter: Adapter,
    shapes: Mapping[str, tuple[int, ...]],
    types: tuple[str, ...],
    fail: Fail,
  ):
    """Reads the header alone.

    Args:
      adapter: the folder.
      shapes: of the base's tensors, by their names in transformers.
      types: of tensors that can be read, as safetensors calls them.
      fail: raises an error that ends in the given words.
    """
    path = adapter.directory / ADAPTER_WEIGHTS_FILE
    if not path.exists():
      fail(
        f"which has no {ADAPTER_WEIGHTS_FILE}; where it has an adapter_model.bin, {_MERGE}, or save"
        " the adapters again with a peft of today"
      )
    self._file = open_file(path, fail)
    self._fail = fail
    stored = {_plain(name): name for name in set(self._file.keys())}
    for name, kept in stored.items():
      if self._type(kept) not in types:
        fail(f"whose {kept} has type {self._type(kept)}; it must be one of {', '.join(types)}")
      if "lora_magnitude_vector" in name:
        fail(f"which has {kept}, of DoRA; {_MERGE}")
    if not stored:
      fail(f"whose {ADAPTER_WEIGHTS_FILE} holds nothing")
    self._changed = self._find_changes(adapter, stored, shapes)
    self.replaced = self._find_replaced(stored, shapes)

  def replacement(self, name: str) -> Any:
    """The slice reader of a tensor that takes the place of the base's."""
    return self._file.get_slice(self.replaced[name])

  def holds_same(self, one: str, other: str) -> bool:
    """Whether two tensors that take the place of the base's are equal."""
    return np.array_equal(*(self._file.get_tensor(self.replaced[name]) for name in (one, other)))

  def __contains__(self, name: str) -> bool:
    return name in self._changed or name in self.replaced

  def apply(
    self, name: str, slices: tuple[slice, ...], part: Num[np.ndarray, "..."]
  ) -> Num[np.ndarray, "..."]:
    """A part of the base's tensor, changed: float32. Tensors that nothing changes stay as given."""
    if name not in self._changed:
      return part
    change = self._changed[name]
    left, right = (self._file.get_slice(stored) for stored in (change.left, change.right))
    rows, columns = slices
    if change.transposed:
      left, right = left[:, rows].T, right[columns].T
    else:
      left, right = left[rows], right[:, columns]
    product = left.astype(np.float32) @ right.astype(np.float32)
    return part.astype(np.float32) + np.float32(change.scale) * product

  def _find_changes(
    self, adapter: Adapter, stored: dict[str, str], shapes: Mapping[str, tuple[int, ...]]
  ) -> dict[str, _Change]:
    changes = {}
    for left_suffix, right_suffix in _PAIRS:
      transposed = left_suffix == "lora_embedding_A"
      modules = {
        name.removesuffix(f".{suffix}")
        for suffix in (left_suffix, right_suffix)
        for name in stored
        if name.endswith(f".{suffix}")
      }
      for module in sorted(modules):
        weight = f"{module}.weight"
        names = [f"{module}.{suffix}" for suffix in (left_suffix, right_suffix)]
        if weight not in shapes or len(shapes[weight]) != 2:
          self._fail(f"which changes {module}, a matrix that its base has not")
        for name in names:
          if name not in stored:
            self._fail(f"which has no {name}, the other half of what changes {module}")
        rank = adapter.rank(module)
        rows, columns = shapes[weight]
        wanted = [(rank, rows), (columns, rank)] if transposed else [(rows, rank), (rank, columns)]
        for name, shape in zip(names, wanted, strict=True):
          self._check_shape(stored[name], shape)
        left, right = (stored.pop(name) for name in names)
        changes[weight] = _Change(left, right, adapter.scale(module, rank), transposed)
    return changes

  def _find_replaced(
    self, stored: dict[str, str], shapes: Mapping[str, tuple[int, ...]]
  ) -> dict[str, str]:
    replaced = {}
    for name, kept in stored.items():
      if "original_module" in name.split("."):  # the base's own, which nothing reads
        continue
      if name not in shapes:
        self._fail(f"which has {kept}, a tensor that its base has not")
      self._check_shape(kept, shapes[name])
      replaced[name] = kept
    return replaced

  def _check_shape(self, stored: str, shape: tuple[int, ...]) -> None:
    found = tuple(self._file.get_slice(stored).get_shape())
    if found != shape:
      self._fail(
        f"whose {stored} has shape {found}; by its base and {ADAPTER_CONFIG_FILE} it must be"
        f" {shape}"
      )

  def _type(self, stored: str) -> str:
    return self._file.get_slice(stored).get_dtype()


def _plain(name: str) -> str:
  """A stored name without what PEFT puts around the names of transformers."""
  parts = name.removeprefix(_PREFIX).split(".")
  return ".".join(part for part in parts if part not in _OWN_PARTS)


def _is_size(value: Any) -> bool:
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  return is_number and 0 < value <= _LARGEST


def _is_pattern(given: Any) -> bool:
  """Whether it is a size for each regular expression of module names; None is none."""
  if given is None:
    return True
  if not isinstance(given, dict) or not all(map(_is_size, given.values())):
    return False
  try:
    for one in given:
      regex.compile(one)
  except regex.error:
    return False
  return True


def _by_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
  """The value of the first pattern that a module's name matches, as PEFT matches them."""
  for one, value in (pattern or {}).items():
    try:
      if regex.match(rf"(.*\.)?({one})$", module, timeout=_SECONDS):
        return value
    except TimeoutError as error:
      raise ConfigError(
        f"{ADAPTER_CONFIG_FILE} has a pattern of module names {one!r}, which takes more than"
        f" {_SECONDS:g} s to be matched with {module!r}; write it without repeated repetitions."
      ) from error
  return default


def _require(
  condition: bool, where: str, name: str, settings: Mapping[str, Any], supported: str
) -> None:
  if not condition:
    raise ConfigError(
      f"{where} has {name} {settings.get(name)!r}; supported: {supported}. For others, {_MERGE}."
    )
