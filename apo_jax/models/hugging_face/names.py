"""Which tensor of a Hugging Face checkpoint is which of our parameters, and how it is laid out.

One table for all families, read by import and export alike. Hugging Face keeps one matrix
[outputs, inputs] a layer, heads and their features merged into one axis; we keep all layers'
in one array, inputs first, heads and features apart. Names are those of the families' modules in
the `transformers` library, version 5.
"""

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Num

from apo_jax.models.architecture import Architecture
from apo_jax.models.reward_model import REWARD_HEAD

# What config.json's "model_type" says for each family that can be imported and exported.
FAMILIES = (
  *("llama", "mistral", "qwen2", "qwen3", "smollm3", "phi3", "gemma2", "gemma3_text"),
  *("olmo2", "olmo3", "granite"),
)

_LAYER_NAMES = {
  "attention_norm": "input_layernorm.weight",
  "query": "self_attn.q_proj.weight",
  "key": "self_attn.k_proj.weight",
  "value": "self_attn.v_proj.weight",
  "output": "self_attn.o_proj.weight",
  "mlp_norm": "post_attention_layernorm.weight",
  "gate": "mlp.gate_proj.weight",
  "up": "mlp.up_proj.weight",
  "down": "mlp.down_proj.weight",
  "query_bias": "self_attn.q_proj.bias",
  "key_bias": "self_attn.k_proj.bias",
  "value_bias": "self_attn.v_proj.bias",
  "query_norm": "self_attn.q_norm.weight",
  "key_norm": "self_attn.k_norm.weight",
}

# Where what attention and MLP add is normalised, norms are named after their places.
_POST_NORM_NAMES = {
  "attention_post_norm": "post_attention_layernorm.weight",
  "mlp_norm": "pre_feedforward_layernorm.weight",
  "mlp_post_norm": "post_feedforward_layernorm.weight",
}

# Families that keep several projections in one tensor, behind each other.
_FUSED_NAMES = {
  "phi3": {
    "query": "self_attn.qkv_proj.weight",
    "key": "self_attn.qkv_proj.weight",
    "value": "self_attn.qkv_proj.weight",
    "gate": "mlp.gate_up_proj.weight",
    "up": "mlp.gate_up_proj.weight",
  }
}


class TensorName(NamedTuple):
  """One of our parameters, and the tensor (or one tensor a layer) that it is, or is a part of.

  Attributes:
    path: in the decoder's nested dictionary. Below "layers" a leading axis is the layer; `ours`,
      `axes` and every method leave it out.
    template: the tensor's name, with `{layer}` where there is one a layer.
    ours: the shape of ours.
    axes: for each axis of the tensor, our axes that are merged in it, outermost first.
    theirs: the part's shape, mostly the tensor's. Ours has more rows where the vocabulary is
      padded.
    begin: where in the tensor the part begins, one number an axis; () is at 0.
    whole: the tensor's shape; () where ours is all of it.
  """

  path: tuple[str, ...]
  template: str
  ours: tuple[int, ...]
  axes: tuple[tuple[int, ...], ...]
  theirs: tuple[int, ...]
  begin: tuple[int, ...] = ()
  whole: tuple[int, ...] = ()

  @property
  def tensor_shape(self) -> tuple[int, ...]:
    """The shape of the whole tensor."""
    return self.whole or self.theirs

  @property
  def part(self) -> tuple[slice, ...]:
    """Where in the tensor all of ours is."""
    begin = self.begin or (0,) * len(self.theirs)
    return tuple(slice(a, a + size) for a, size in zip(begin, self.theirs, strict=True))

  @property
  def stacked(self) -> bool:
    """Whether there is one tensor a layer."""
    return self.path[0] == "layers"

  def name(self, layer: int = 0) -> str:
    """The tensor's name."""
    return self.template.format(layer=layer)

  def to_theirs(self, ours: Num[Array, "..."] | Num[np.ndarray, "..."]) -> Array | np.ndarray:
    """The part of the tensor, shaped `theirs`, from one whole layer; padding rows are cut off."""
    merged = [math.prod(ours.shape[axis] for axis in axes) for axes in self.axes]
    return ours.transpose(self._order).reshape(merged)[: self.theirs[0]]

  def to_ours(self, theirs: Num[np.ndarray, "..."]) -> Num[np.ndarray, "..."]:
    """One whole layer, shaped `ours`, from the whole tensor; rows of no token are zeros."""
    return self.part_to_ours(theirs[self.part], (slice(None),) * len(self.ours))

  def their_slices(self, index: tuple[slice, ...]) -> tuple[slice, ...]:
    """The part of the tensor that `index` of one layer of ours is made from.

    Of merged axes the outermost is cut and the others are read whole, which reads nothing twice
    as long as heads, not their features, are split over devices. Empty for padding rows alone.
    """
    slices = []
    for axes, span in zip(self.axes, self.part, strict=True):
      start, stop = span.start, span.stop
      if axes:
        first, last, _ = index[axes[0]].indices(self.ours[axes[0]])
        inner = math.prod(self.ours[axis] for axis in axes[1:])
        stop = min(span.start + last * inner, span.stop)
        start = min(span.start + first * inner, span.stop)
      slices.append(slice(start, stop))
    return tuple(slices)

  def part_to_ours(
    self, part: Num[np.ndarray, "..."], index: tuple[slice, ...]
  ) -> Num[np.ndarray, "..."]:
    """`index` of one layer of ours, from the part of the tensor at `their_slices(index)`."""
    outermost = {axes[0] for axes in self.axes if axes}
    # Only outermost axes were cut when the part was read; the others are cut here, at the end.
    read = [span if axis in outermost else slice(None) for axis, span in enumerate(index)]
    sizes = [len(range(*span.indices(size))) for span, size in zip(read, self.ours, strict=True)]
    merged = [math.prod(sizes[axis] for axis in axes) for axes in self.axes]
    padding = merged[0] - part.shape[0]
    if padding:
      part = np.pad(part, [(0, padding)] + [(0, 0)] * (part.ndim - 1))
    ours = part.reshape([sizes[axis] for axis in self._order]).transpose(np.argsort(self._order))
    rest = [slice(None) if axis in outermost else span for axis, span in enumerate(index)]
    return ours[tuple(rest)]

  @property
  def _order(self) -> tuple[int, ...]:
    """Our axes in the order in which the tensor keeps them."""
    return tuple(axis for axes in self.axes for axis in axes)


def tensor_names(
  architecture: Architecture, family: str, *, head: bool = True
) -> tuple[TensorName, ...]:
  """The names of a decoder's parameters, adapters not among them; embedding first, head last.

  Args:
    architecture: of the decoder.
    family: one of `FAMILIES`.
    head: with the language-model head, where it is not the embedding. A reward model has none.
  """
  d = architecture.embed_dim
  table = (architecture.vocab_rows, d)
  their_table = (architecture.vocab_size, d)
  rows = ((0,), (1,))
  norm = ((0,),)
  names = [TensorName(("embedding",), "model.embed_tokens.weight", table, rows, their_table)]
  layer_names = _LAYER_NAMES | _FUSED_NAMES.get(family, {})
  if architecture.post_norms:
    layer_names = layer_names | _POST_NORM_NAMES
  layer = []
  for parameter, (ours, axes) in _layer_layouts(architecture).items():
    template = "model.layers.{layer}." + layer_names[parameter]
    theirs = tuple(math.prod(ours[axis] for axis in merged) for merged in axes)
    layer.append(TensorName(("layers", parameter), template, ours, axes, theirs))
  names += [name for parts in by_tensor(layer) for name in _behind_each_other(parts)]
  names.append(TensorName(("final_norm",), "model.norm.weight", (d,), norm, (d,)))
  if head and not architecture.tied_embeddings:
    names.append(TensorName(("head",), "lm_head.weight", table, rows, their_table))
  return tuple(names)


def by_tensor(names: Iterable[TensorName]) -> list[list[TensorName]]:
  """The names, those of one tensor together; tensors and their parts in the order given."""
  tensors: dict[str, list[TensorName]] = {}
  for name in names:
    tensors.setdefault(name.template, []).append(name)
  return list(tensors.values())


def _behind_each_other(parts: list[TensorName]) -> list[TensorName]:
  """The parts of one tensor, which are rows of it, one behind the other."""
  if len(parts) == 1:
    return parts
  begins = itertools.accumulate((part.theirs[0] for part in parts), initial=0)
  whole = (sum(part.theirs[0] for part in parts), *parts[0].theirs[1:])
  rest = (0,) * (len(whole) - 1)
  return [
    part._replace(begin=(begin, *rest), whole=whole)
    for begin, part in zip(begins, parts, strict=False)
  ]


def reward_head_name(architecture: Architecture) -> TensorName:
  """The name of a reward model's head, a sequence classifier of one label."""
  d = architecture.embed_dim
  return TensorName((REWARD_HEAD,), "score.weight", (d,), ((), (0,)), (1, d))


def _layer_layouts(
  architecture: Architecture,
) -> dict[str, tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]]:
  """The shape of each of a layer's parameters, and which of its axes the tensor's axes merge."""
  d, h, k, n, f = (
    architecture.embed_dim,
    architecture.heads,
    architecture.kv_heads,
    architecture.head_dim,
    architecture.mlp_dim,
  )
  vector, transposed = ((0,),), ((1,), (0,))
  to_heads, from_heads = ((1, 2), (0,)), ((2,), (0, 1))
  layouts = {
    "query": ((d, h, n), to_heads),
    "key": ((d, k, n), to_heads),
    "value": ((d, k, n), to_heads),
    "output": ((h, n, d), from_heads),
    "gate": ((d, f), transposed),
    "up": ((d, f), transposed),
    "down": ((f, d), transposed),
  }
  if architecture.attention_bias:
    layouts["query_bias"] = ((h, n), ((0, 1),))
    layouts["key_bias"] = layouts["value_bias"] = ((k, n), ((0, 1),))
  if architecture.query_key_norms == "head":
    layouts["query_norm"] = layouts["key_norm"] = ((n,), vector)
  elif architecture.query_key_norms == "heads":
    layouts |= {"query_norm": ((h, n), ((0, 1),)), "key_norm": ((k, n), ((0, 1),))}
  if architecture.pre_norms:
    layouts["attention_norm"] = layouts["mlp_norm"] = ((d,), vector)
  if architecture.post_norms:
    layouts["attention_post_norm"] = layouts["mlp_post_norm"] = ((d,), vector)
  return layouts
