"""Parameters from a Hugging Face checkpoint's safetensors, tensor by tensor onto their sharding.

Every process reads only the slices that its devices hold. One layer's tensor at a time is put on
the devices and written into the array that stacks all layers', so host memory holds one tensor.
All files' headers are checked before the first tensor is read.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import qwix
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Num
from safetensors import SafetensorError, safe_open

from apo_jax.config.fields import ConfigError
from apo_jax.models.frozen import Kept, quantise
from apo_jax.models.hugging_face.config import Checkpoint
from apo_jax.models.hugging_face.names import TensorName, reward_head_name, tensor_names
from apo_jax.models.hugging_face.text_part import text_names
from apo_jax.models.lora import INPUT_AXES, Parameters

INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILE = "model.safetensors"

# As safetensors call them: float32, bfloat16, float16.
_TYPES = ("F32", "BF16", "F16")
# A buffer that older versions of transformers stored. It is computed from the config.
_ROTARY_BUFFER = ".rotary_emb.inv_freq"
_LM_HEAD = "lm_head.weight"
_EMBEDDING = "model.embed_tokens.weight"
_COMPARED_ROWS = 4096


def import_decoder(checkpoint: Checkpoint, abstract: Parameters, field: str) -> Parameters:
  """A decoder's parameters, of the types and laid out as `abstract` says.

  Each tensor gets its type on the host, or is quantised on the devices before the next is read: no
  copy in the file's type, or a wider one, is ever whole.

  Args:
    checkpoint: from `read_architecture`; `abstract` must be of its architecture.
    abstract: shapes, types and shardings of a policy or a reward model's trunk, adapters not among
      them. Where it has no "head", the checkpoint's language-model head is not read.
    field: the config field that named the checkpoint, for errors.

  Raises:
    ConfigError: for a missing or unreadable file, a missing or unknown tensor, a tensor of
      another shape or type, and a head that is wanted of a reward model; before anything is read.
  """
  if "head" in abstract and checkpoint.is_reward:
    raise ConfigError(
      f"{field} is {str(checkpoint.directory)!r}, a reward model, which has no language-model "
      "head; it must be a language model."
    )
  files = TensorFiles(checkpoint, field)
  names = tensor_names(checkpoint.architecture, checkpoint.family, head="head" in abstract)
  imported: Parameters = {"layers": {}}
  for name in names:
    if name.stacked:
      parameter = name.path[-1]
      leaf = abstract["layers"][parameter]
      imported["layers"][parameter] = _import_stacked(files, name, leaf)
    else:
      imported[name.path[0]] = _import_one(files, name, abstract[name.path[0]])
  return imported


def import_reward_head(
  checkpoint: Checkpoint, abstract: jax.ShapeDtypeStruct, field: str
) -> Float[Array, "D"]:
  """A reward checkpoint's head, of the type and laid out as `abstract` says.

  Raises:
    ConfigError: as `import_decoder`, and for a checkpoint of a language model.
  """
  if not checkpoint.is_reward:
    raise ConfigError(
      f"{field} is {str(checkpoint.directory)!r}, a language model, which has no reward head; "
      "it must be a sequence classifier of one label."
    )
  files = TensorFiles(checkpoint, field)
  return _import_one(files, reward_head_name(checkpoint.architecture), abstract)


class TensorFiles:
  """A checkpoint's tensors, by name, in one safetensors file or in several with an index.

  Making one opens every file and checks every tensor's name, shape and type.
  """

  def __init__(self, checkpoint: Checkpoint, field: str):
    self._where = f"{field} is {str(checkpoint.directory)!r}"
    self._file_of, self._stored = {}, {}
    for path, tensors in self._paths(checkpoint.directory).items():
      file = self._open(path)
      present = set(file.keys())
      for name in sorted((tensors or present) - present):
        self._fail(f"whose {INDEX_FILE} says that {path.name} has {name}, but it has not")
      found = text_names(present)
      self._stored |= found
      self._file_of |= dict.fromkeys(found, file)
    self._check(checkpoint)

  def read(self, name: str, slices: tuple[slice, ...]) -> Num[np.ndarray, "..."]:
    """A part of a tensor, in the type that the file has; only its bytes are read."""
    return self._slice(name)[slices]

  def _slice(self, name: str) -> Any:
    """A tensor of which nothing is read yet."""
    return self._file_of[name].get_slice(self._stored[name])

  def _paths(self, directory: Path) -> dict[Path, set[str] | None]:
    """The files, and of each the tensors that it should have where an index says so."""
    index = directory / INDEX_FILE
    if not index.exists():
      if not (directory / WEIGHTS_FILE).exists():
        self._fail(f"which has neither {WEIGHTS_FILE} nor {INDEX_FILE}")
      return {directory / WEIGHTS_FILE: None}
    paths: dict[Path, set[str] | None] = {}
    try:
      for tensor, file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items():
        paths.setdefault(directory / file, set()).add(tensor)
    except (ValueError, KeyError, AttributeError, TypeError):
      self._fail(f"whose {INDEX_FILE} is not a JSON object with a weight_map")
    for path in paths:
      if not path.exists():
        self._fail(f"whose {INDEX_FILE} names {path.name}, which is not there")
    return paths

  def _open(self, path: Path) -> safe_open:
    try:
      return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
      self._fail(f"whose {path.name} cannot be read ({error})")

  def _check(self, checkpoint: Checkpoint) -> None:
    """Every tensor's name, shape and type."""
    architecture, family = checkpoint.architecture, checkpoint.family
    names = tensor_names(architecture, family, head=not checkpoint.is_reward)
    if checkpoint.is_reward:
      names += (reward_head_name(architecture),)
    wanted = {
      name.name(layer): name.tensor_shape
      for name in names
      for layer in range(architecture.layers if name.stacked else 1)
    }
    for tensor, shape in wanted.items():
      if tensor not in self._file_of:
        self._fail(f"which has no tensor {tensor}; a {family} of its config.json has one")
      found = self._slice(tensor)
      if tuple(found.get_shape()) != shape:
        actual = tuple(found.get_shape())
        self._fail(f"whose {tensor} has shape {actual}; by its config.json it must be {shape}")
      if found.get_dtype() not in _TYPES:
        self._fail(
          f"whose {tensor} has type {found.get_dtype()}; it must be one of {', '.join(_TYPES)}"
        )
    for tensor in sorted(self._file_of.keys() - wanted.keys()):
      if tensor == _LM_HEAD and (checkpoint.is_reward or architecture.tied_embeddings):
        continue
      if not tensor.endswith(_ROTARY_BUFFER):
        self._fail(f"which has a tensor {tensor} that a {family} of its config.json has not")
    if architecture.tied_embeddings and not checkpoint.is_reward and _LM_HEAD in self._file_of:
      self._check_tied()

  def _check_tied(self) -> None:
    """A stored head of a model whose head is the embedding must equal it."""
    head, table = map(self._slice, (_LM_HEAD, _EMBEDDING))
    equal = head.get_shape() == table.get_shape()
    for start in range(0, table.get_shape()[0] if equal else 0, _COMPARED_ROWS):
      rows = slice(start, min(start + _COMPARED_ROWS, table.get_shape()[0]))
      equal = equal and np.array_equal(head[rows], table[rows])
    if not equal:
      self._fail(
        f"whose {_LM_HEAD} differs from {_EMBEDDING}, although config.json says "
        "tie_word_embeddings; it must be false there"
      )

  def _fail(self, problem: str) -> None:
    raise ConfigError(f"{self._where}, {problem}.")


def _import_one(
  files: TensorFiles, name: TensorName, abstract: jax.ShapeDtypeStruct
) -> Float[Array, "..."]:
  """A parameter that is one tensor."""
  return _place(files, name, 0, abstract.dtype, abstract.sharding)


def _import_stacked(
  files: TensorFiles, name: TensorName, abstract: jax.ShapeDtypeStruct | qwix.QArray
) -> Kept:
  """A parameter that stacks one tensor a layer, written in place layer by layer."""
  leaves = jax.tree.leaves(abstract)
  widest = leaves[0].sharding  # of the weight, or of its codes
  one_layer = NamedSharding(widest.mesh, PartitionSpec(*widest.spec[1:]))
  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)

  def zeros() -> Kept:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract)

  stacked = jax.jit(zeros, out_shardings=shardings)()
  quantised, dtype = None, leaves[0].dtype
  if isinstance(abstract, qwix.QArray):
    quantised, dtype = (abstract.qtype, INPUT_AXES[name.path[-1]]), jnp.dtype("float32")
  write = _writer(quantised, shardings)
  for layer in range(abstract.shape[0]):
    stacked = write(stacked, _place(files, name, layer, dtype, one_layer), layer)
    # Otherwise the host would run ahead, and hold every tensor that waits for its device.
    jax.block_until_ready(stacked)
  return stacked


@functools.lru_cache
def _writer(
  quantised: tuple[str, int] | None, shardings: Any
) -> Callable[[Kept, Array, int], Kept]:
  """Writes one layer into an array of all layers, which it gives up.

  With `quantised`, a type and the number of the weight's input axes, its codes and scales.
  """

  def write(stacked: Kept, one: Float[Array, "..."], layer: Int[Array, ""]) -> Kept:
    if quantised is not None:
      frozen_dtype, inputs = quantised
      one = quantise(one, frozen_dtype, range(inputs))
    return jax.tree.map(
      lambda whole, part: jax.lax.dynamic_update_index_in_dim(whole, part, layer, axis=0),
      stacked,
      one,
    )

  return jax.jit(write, donate_argnums=0, out_shardings=shardings)


def _place(
  files: TensorFiles, name: TensorName, layer: int, dtype: jnp.dtype, sharding: NamedSharding
) -> Float[Array, "..."]:
  """One tensor as one layer of ours, rounded to `dtype`.

  Each process reads what its devices hold, once.
  """

  @functools.cache
  def read(bounds: tuple[tuple[int, int], ...]) -> Float[np.ndarray, "..."]:
    index = tuple(slice(*bound) for bound in bounds)
    slices = name.their_slices(index)
    if any(span.start == span.stop for span in slices):  # rows of the vocabulary's padding alone
      part = np.zeros([span.stop - span.start for span in slices], np.float32)
    else:
      part = files.read(name.name(layer), slices)
    return np.ascontiguousarray(name.part_to_ours(part, index), dtype=dtype)

  def part(index: tuple[slice, ...]) -> Float[np.ndarray, "..."]:
    # Devices that hold copies ask with equal slices, which have no hash before Python 3.12.
    return read(tuple(span.indices(size)[:2] for span, size in zip(index, name.ours, strict=True)))

  return jax.make_array_from_callback(name.ours, sharding, part)
