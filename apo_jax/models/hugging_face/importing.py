"""Parameters from a Hugging Face checkpoint's safetensors, tensor by tensor onto their sharding.

Every process reads only the slices that its devices hold. One layer's tensor at a time is put on
the devices and written into the array that stacks all layers', so host memory holds one tensor.
All files' headers are checked before the first tensor is read.
"""

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import qwix
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Num

from apo_jax.config.fields import ConfigError
from apo_jax.models.frozen import Kept, quantise
from apo_jax.models.hugging_face.adapters import Changes
from apo_jax.models.hugging_face.checkpoint import Checkpoint
from apo_jax.models.hugging_face.names import TensorName, reward_head_name, tensor_names
from apo_jax.models.hugging_face.stored_names import (
  HEADS,
  STATISTICS,
  find_head,
  find_stored_names,
  is_head_bias,
  is_value_head,
  what_it_is,
)
from apo_jax.models.hugging_face.text_part import text_names
from apo_jax.models.hugging_face.weight_files import (
  INDEX_FILE,
  WEIGHTS_FILE,
  has_unused_index,
  open_weights,
)
from apo_jax.models.lora import INPUT_AXES, Parameters

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
      f"{checkpoint.where(field)}, a reward model, which has no language-model "
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
      f"{checkpoint.where(field)}, a language model, which has no reward head; "
      "it must be a sequence classifier of one label."
    )
  files = TensorFiles(checkpoint, field)
  return _import_one(files, reward_head_name(checkpoint.architecture), abstract)


class TensorFiles:
  """A checkpoint's tensors, by their names in transformers, with the changes of adapters.

  Making one opens every file and checks every tensor's name, shape and type.

  Attributes:
    renamed: tensors have other names in the files than in transformers.
    notes: what is stored in another way than transformers stores it, or is not read; sentences.
  """

  def __init__(self, checkpoint: Checkpoint, field: str):
    self._where = checkpoint.where(field)
    self.notes: list[str] = []
    architecture, family = checkpoint.architecture, checkpoint.family
    self._file_of = open_weights(checkpoint.directory, checkpoint.is_reward, self._fail)
    if len(self._file_of) < architecture.layers:  # before a name is made for each of them
      self._fail(
        f"whose config.json has {architecture.layers:,} layers, but whose weights have"
        f" {len(self._file_of):,} tensors in all"
      )
    names = tensor_names(architecture, family, head=not checkpoint.is_reward)
    self._head = reward_head_name(architecture).name() if checkpoint.is_reward else None
    if checkpoint.is_reward:
      names += (reward_head_name(architecture),)
    wanted = {
      name.name(layer): name.tensor_shape
      for name in names
      for layer in range(architecture.layers if name.stacked else 1)
    }
    self._changes = None
    if checkpoint.adapter is not None:
      self._changes = Changes(
        checkpoint.adapter, wanted | self._tied(checkpoint), _TYPES, self._fail
      )
    if has_unused_index(checkpoint.directory):
      self.notes.append(f"{WEIGHTS_FILE} is read, and not what {INDEX_FILE} beside it names")
    # Of images and text the text's tensors alone, by the names that they have without images.
    present = (
      text_names(self._file_of) if checkpoint.is_text_part else {n: n for n in self._file_of}
    )
    others = self._find_names(present, tuple(wanted))
    self._check(wanted, checkpoint)
    self._check_others(others, checkpoint)

  def read(self, name: str, slices: tuple[slice, ...]) -> Num[np.ndarray, "..."]:
    """A part of a tensor; only its bytes are read.

    It has the type that the file has, or float32 where adapters change it.
    """
    part = self._slices(name)[slices]
    return part if self._changes is None else self._changes.apply(name, slices, part)

  def _slices(self, name: str) -> Any:
    """The slice reader of a tensor before it is changed."""
    if self._changes is not None and name in self._changes.replaced:
      return self._changes.replacement(name)
    stored = self._stored[name]
    return self._file_of[stored].get_slice(stored)

  def _shape(self, stored: str) -> tuple[int, ...]:
    return tuple(self._file_of[stored].get_slice(stored).get_shape())

  def _is_there(self, name: str) -> bool:
    return name in self._stored or (self._changes is not None and name in self._changes.replaced)

  def _find_names(self, present: dict[str, str], wanted: tuple[str, ...]) -> dict[str, str]:
    """Finds the stored name of each tensor, and returns what is stored beside them.

    Args:
      present: how each of the model's tensors is stored, by the name to find it by.
      wanted: the names in transformers.
    """
    found = find_stored_names(present.keys(), wanted, self._fail)
    self._stored = {name: present[one] for name, one in found.of.items()}
    others = {name: present[one] for name, one in found.others.items()}
    self.renamed = bool(found.wrapper) or found.bare
    if found.wrapper:
      self.notes.append(f"{found.wrapper!r} in the names of its tensors is passed over")
    if found.bare:
      self.notes.append("its tensors are named as in a model without a head")
    if self._head is not None and not self._is_there(self._head):
      shapes = {stored: self._shape(stored) for stored in others.values()}
      heads = find_head(others, shapes)
      if len(heads) > 1:
        self._fail(f"which has several heads, {' and '.join(heads)}; it must have one")
      if heads:
        self._stored[self._head] = others.pop(heads[0])
        self.renamed = True
        self.notes.append(f"its head is {heads[0]}")
    return others

  def _check(self, wanted: dict[str, tuple[int, ...]], checkpoint: Checkpoint) -> None:
    """Every tensor's name, shape and type."""
    for tensor, shape in wanted.items():
      if not self._is_there(tensor):
        self._fail(
          what_it_is(self._file_of.keys())
          or f"which has no tensor {tensor}; a {checkpoint.family} of its config.json has one"
          + (f" (or {', '.join(HEADS[1:])})" if tensor == self._head else "")
        )
      found = self._slices(tensor)
      if tuple(found.get_shape()) != shape:
        actual = tuple(found.get_shape())
        self._fail(f"whose {tensor} has shape {actual}; by its config.json it must be {shape}")
      if found.get_dtype() not in _TYPES:
        self._fail(
          f"whose {tensor} has type {found.get_dtype()}; it must be one of {', '.join(_TYPES)}"
        )

  def _check_others(self, others: dict[str, str], checkpoint: Checkpoint) -> None:
    """What is stored beside the tensors that are read must be known to change nothing."""
    tied = checkpoint.architecture.tied_embeddings
    for name, stored in sorted(others.items()):
      if name == _LM_HEAD and (checkpoint.is_reward or tied):
        continue
      if name.endswith(_ROTARY_BUFFER):
        continue
      if checkpoint.is_reward and is_head_bias(name):
        self.notes.append(f"{stored} is left out: it adds the same to every reward")
      elif checkpoint.is_reward and name in STATISTICS:
        self.notes.append(f"{stored} is left out: rewards are as the head gives them")
      elif not checkpoint.is_reward and is_value_head(name):
        self.notes.append(f"{stored}, of a value head, is not read")
      else:
        self._fail(
          what_it_is([stored])
          or f"which has a tensor {stored} that a {checkpoint.family} of its config.json has not"
        )
    if tied and not checkpoint.is_reward:
      self._check_tied(others.get(_LM_HEAD))

  def _tied(self, checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """The head that is the embedding, which adapters may only change alike."""
    tied = checkpoint.architecture.tied_embeddings and not checkpoint.is_reward
    shape = (checkpoint.architecture.vocab_size, checkpoint.architecture.embed_dim)
    return {_LM_HEAD: shape} if tied else {}

  def _check_tied(self, stored: str | None) -> None:
    """A stored head of a model whose head is the embedding must equal it."""
    if self._changes is not None and (_LM_HEAD in self._changes or _EMBEDDING in self._changes):
      replaced = self._changes.replaced
      both = _LM_HEAD in replaced and _EMBEDDING in replaced
      if not both or not self._changes.holds_same(_LM_HEAD, _EMBEDDING):
        self._fail(
          f"which changes one of {_LM_HEAD} and {_EMBEDDING}, or each otherwise, although"
          " config.json says tie_word_embeddings: they are one tensor there"
        )
      return
    if stored is None:
      return
    head, table = self._file_of[stored].get_slice(stored), self._slices(_EMBEDDING)
    equal = head.get_shape() == table.get_shape()
    for start in range(0, table.get_shape()[0] if equal else 0, _COMPARED_ROWS):
      rows = slice(start, min(start + _COMPARED_ROWS, table.get_shape()[0]))
      equal = equal and np.array_equal(head[rows], table[rows])
    if not equal:
      self._fail(
        f"whose {_LM_HEAD} differs from {_EMBEDDING}, although config.json says "
        "tie_word_embeddings; it must be false there"
      )

  def _fail(self, problem: str) -> NoReturn:
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
