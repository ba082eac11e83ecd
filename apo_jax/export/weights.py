"""Weights and config.json of a decoder or reward model, as the `transformers` library reads them.

Weights are gathered tensor by tensor: one layer's part of a stacked array is sent to every device,
and the process that writes copies it to the host. All processes gather the same tensors in the
same order; the others write nothing. Adapters are added into their weights on the way, so that no
merged copy of the model is ever held.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
import transformers
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from apo_jax.config.schema import LoraConfig
from apo_jax.export.rope import with_both_ropes
from apo_jax.logs.files import write_json
from apo_jax.models import lora as lora_adapters
from apo_jax.models.architecture import Architecture
from apo_jax.models.definition import Definition, Parameters
from apo_jax.models.hugging_face.names import TensorName, by_tensor, reward_head_name, tensor_names
from apo_jax.models.reward_model import REWARD_HEAD

DataType = Literal["float32", "bfloat16"]

STEM = "model"  # what the weights' files are called
CONFIG_FILE = "config.json"

# The limit that the hub's own tools keep to.
MAX_FILE_BYTES = 5 * 10**9

# The classes of each family: a language model, and a classifier of sequences.
_CLASSES = {
  "llama": ("LlamaForCausalLM", "LlamaForSequenceClassification"),
  "mistral": ("MistralForCausalLM", "MistralForSequenceClassification"),
  "qwen2": ("Qwen2ForCausalLM", "Qwen2ForSequenceClassification"),
  "qwen3": ("Qwen3ForCausalLM", "Qwen3ForSequenceClassification"),
  "smollm3": ("SmolLM3ForCausalLM", "SmolLM3ForSequenceClassification"),
  "gemma2": ("Gemma2ForCausalLM", "Gemma2ForSequenceClassification"),
  "gemma3_text": ("Gemma3ForCausalLM", "Gemma3TextForSequenceClassification"),
  "phi3": ("Phi3ForCausalLM", "Phi3ForSequenceClassification"),
  "olmo2": ("Olmo2ForCausalLM", "Olmo2ForSequenceClassification"),
  "olmo3": ("Olmo3ForCausalLM", "Olmo3ForSequenceClassification"),
  "granite": ("GraniteForCausalLM", ""),  # the library has no classifier of it
}

# What a checkpoint's config.json says of how and by what that checkpoint was made.
_NOT_KEPT = (
  *("_name_or_path", "_model_name_or_path", "auto_map", "transformers_version"),
  # Of OpenRLHF's reward models: statistics of the rewards before training, the head's old name.
  *("mean", "std", "normalize_reward", "value_head_prefix"),
)


class Tensor(NamedTuple):
  """One tensor to be written.

  Attributes:
    name: in the file.
    bytes: its size.
    gather: gives it whole, on every device; all processes call it together.
  """

  name: str
  bytes: int
  gather: Callable[[], Array]


def policy_tensors(
  parameters: Parameters, definition: Definition, family: str, dtype: DataType
) -> list[Tensor]:
  """A policy's tensors, its adapters merged; embedding first, head last."""
  names = tensor_names(definition.architecture, family)
  return named_tensors(parameters, names, dtype, definition.lora)


def reward_tensors(
  parameters: Parameters, definition: Definition, family: str, dtype: DataType
) -> list[Tensor]:
  """A reward model's tensors, its adapters merged; embedding first, `score.weight` last."""
  names = tensor_names(definition.architecture, family, head=False)
  trunk = named_tensors(parameters["trunk"], names, dtype, definition.lora)
  head = {REWARD_HEAD: parameters[REWARD_HEAD]}
  return [*trunk, *named_tensors(head, [reward_head_name(definition.architecture)], dtype)]


def named_tensors(
  parameters: Parameters,
  names: Sequence[TensorName],
  dtype: DataType,
  lora: LoraConfig | None = None,
) -> list[Tensor]:
  """The tensors of `names`, all layers of one behind each other.

  With `lora`, the weights of its modules get their adapter's change.
  """
  return [
    _tensor(parameters, tuple(parts), layer, dtype, lora)
    for parts in by_tensor(names)
    for layer in range(_leaf(parameters, parts[0].path).shape[0] if parts[0].stacked else 1)
  ]


def write_weights(
  directory: Path | None,
  tensors: Iterable[Tensor],
  stem: str = STEM,
  max_file_bytes: int = MAX_FILE_BYTES,
) -> None:
  """Writes tensors as STEM.safetensors, or as several files with an index.

  The host holds the tensors of one file at a time.

  Args:
    directory: where the files go; None in a process that only takes part.
    tensors: all processes give the same ones.
    stem: what the files' names begin with.
    max_file_bytes: a file holds no more, unless it is one tensor.
  """
  files = _split(tensors, max_file_bytes)
  places = {}
  for number, part in enumerate(files, start=1):
    name = f"{stem}.safetensors"
    if len(files) > 1:
      name = f"{stem}-{number:05d}-of-{len(files):05d}.safetensors"
    places |= {tensor.name: name for tensor in part}
    _write_file(directory and directory / name, part)
  if directory and len(files) > 1:
    total = sum(tensor.bytes for part in files for tensor in part)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    write_json(directory / f"{stem}.safetensors.index.json", index)


def has_classifier(family: str) -> bool:
  """Whether the `transformers` library can read a reward model of this family."""
  return bool(_CLASSES[family][1])


def policy_config(
  base: Mapping[str, Any], family: str, architecture: Architecture, dtype: DataType
) -> dict[str, Any]:
  """config.json of a policy; `base` is its checkpoint's, or of `llama_config`."""
  return _config(base, architecture, dtype) | {"architectures": [_CLASSES[family][0]]}


def reward_config(
  base: Mapping[str, Any], family: str, architecture: Architecture, dtype: DataType, padding: int
) -> dict[str, Any]:
  """config.json of a reward model: a classifier of one label, which is the reward as it is.

  `padding` is the token that the classifier looks past to find a sequence's end.
  """
  return _config(base, architecture, dtype) | {
    "architectures": [_CLASSES[family][1]],
    "id2label": {"0": "reward"},
    "label2id": {"reward": 0},
    "problem_type": "regression",
    "pad_token_id": padding,
  }


def llama_config(architecture: Architecture, max_positions: int) -> dict[str, Any]:
  """What config.json says of a decoder that a config's `model.shape` describes.

  `max_positions` is the longest sequence it has read.
  """
  rope = architecture.kinds[0].rope
  assert rope is not None  # a shape has positions in every layer
  config = transformers.LlamaConfig(
    vocab_size=architecture.vocab_size,
    hidden_size=architecture.embed_dim,
    intermediate_size=architecture.mlp_dim,
    num_hidden_layers=architecture.layers,
    num_attention_heads=architecture.heads,
    num_key_value_heads=architecture.kv_heads,
    head_dim=architecture.head_dim,
    rms_norm_eps=architecture.norm_epsilon,
    rope_parameters={"rope_type": "default", "rope_theta": rope.theta},
    tie_word_embeddings=architecture.tied_embeddings,
    max_position_embeddings=max_positions,
  )
  return with_both_ropes(config.to_dict())


def _config(base: Mapping[str, Any], architecture: Architecture, dtype: DataType) -> dict[str, Any]:
  kept = {name: value for name, value in base.items() if name not in _NOT_KEPT}
  return with_both_ropes(kept) | {
    "vocab_size": architecture.vocab_size,
    "tie_word_embeddings": architecture.tied_embeddings,
    "dtype": dtype,
    "torch_dtype": dtype,  # what transformers before version 4.56 reads
  }


def _leaf(parameters: Parameters, path: Sequence[str]) -> Any:
  for name in path:
    parameters = parameters[name]
  return parameters


def _tensor(
  parameters: Parameters,
  parts: tuple[TensorName, ...],
  layer: int,
  dtype: DataType,
  lora: LoraConfig | None,
) -> Tensor:
  """The tensor that is made of these parameters."""
  ours = [_leaf(parameters, name.path) for name in parts]
  adapters = [_adapter(parameters, name, lora) for name in parts]
  first = parts[0]
  gather = functools.partial(
    _gather, parts, dtype, ours, layer if first.stacked else None, adapters
  )
  size = int(np.prod(first.tensor_shape)) * jnp.dtype(dtype).itemsize
  return Tensor(first.name(layer), size, gather)


# A and B of all layers, and what their product is multiplied by.
_Adapter = tuple[Array, Array, float]


def _adapter(parameters: Parameters, name: TensorName, lora: LoraConfig | None) -> _Adapter | None:
  module = name.path[-1]
  if lora is None or not name.stacked or module not in lora.modules:
    return None
  a, b = (parameters["layers"][part] for part in lora_adapters.names(module))
  return a, b, lora.alpha / lora.rank


def _gather(
  parts: tuple[TensorName, ...],
  dtype: DataType,
  ours: list[Array],
  layer: int | None,
  adapters: list[_Adapter | None],
) -> Array:
  whole = _whole(parts, dtype, NamedSharding(ours[0].sharding.mesh, PartitionSpec()))
  return whole(ours, layer, adapters)


@functools.lru_cache(maxsize=64)
def _whole(
  parts: tuple[TensorName, ...], dtype: DataType, replicated: NamedSharding
) -> Callable[..., Array]:
  """Compiled once for all layers. Where a tensor has no part it is zero, as adapters' are."""

  def one(
    name: TensorName,
    ours: Array,
    layer: Int[Array, ""] | None,
    adapter: tuple[Array, Array, Float[Array, ""]] | None,
  ) -> Array:
    if layer is not None:
      ours = ours[layer]
    if adapter is not None:
      a, b, scale = adapter
      change = jnp.tensordot(a[layer], b[layer], 1, precision=jax.lax.Precision.HIGHEST)
      ours = ours + change * scale
    return name.to_theirs(ours).astype(dtype)

  def whole(ours: list[Array], layer: Int[Array, ""] | None, adapters: list[Any]) -> Array:
    made = [one(*part) for part in zip(parts, ours, [layer] * len(parts), adapters, strict=True)]
    if not parts[0].whole:
      return made[0]
    tensor = jnp.zeros(parts[0].whole, dtype)
    for name, part in zip(parts, made, strict=True):
      tensor = tensor.at[name.part].set(part)
    return tensor

  return jax.jit(whole, out_shardings=replicated)


def _split(tensors: Iterable[Tensor], max_file_bytes: int) -> list[list[Tensor]]:
  files: list[list[Tensor]] = [[]]
  size = 0
  for tensor in tensors:
    if files[-1] and size + tensor.bytes > max_file_bytes:
      files.append([])
      size = 0
    files[-1].append(tensor)
    size += tensor.bytes
  return files


def _write_file(path: Path | None, tensors: Sequence[Tensor]) -> None:
  held = {}
  for tensor in tensors:
    # Waiting keeps a process from running ahead and filling the devices.
    gathered = tensor.gather().block_until_ready()
    if path is not None:
      held[tensor.name] = np.ascontiguousarray(gathered.addressable_data(0))
  if path is not None:
    safetensors.numpy.save_file(held, path, metadata={"format": "pt"})
    path.chmod(0o644)  # it is written so that only its owner can read it
