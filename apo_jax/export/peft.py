"""Adapters as the `peft` library reads them: its names, its layout and its adapter_config.json.

PEFT keeps A as [rank, inputs] and B as [outputs, rank] of each adapted projection, and the
change of the weight is alpha / rank * B A, as here.
"""

import math
from typing import Any

from apo_jax.export.weights import DataType, Tensor, named_tensors
from apo_jax.models import lora as lora_adapters
from apo_jax.models.definition import Definition, Parameters
from apo_jax.models.hugging_face.names import TensorName, reward_head_name, tensor_names
from apo_jax.models.reward_model import REWARD_HEAD

# What the files of an adapter are called.
STEM = "adapter_model"
CONFIG_FILE = "adapter_config.json"

_PREFIX = "base_model.model."
_WEIGHT = ".weight"


def adapter_tensors(
  trained: Parameters, definition: Definition, family: str, dtype: DataType
) -> list[Tensor]:
  """The tensors of a player's adapters and, of a reward model, its head.

  `trained` holds at least the trained parameters. The definition has adapters.
  """
  trunk = trained.get("trunk", trained)
  names = [
    name
    for projection in _adapted(definition, family)
    for name in _adapter_names(projection, definition)
  ]
  tensors = named_tensors(trunk, names, dtype)
  if REWARD_HEAD not in trained:
    return tensors
  head = reward_head_name(definition.architecture)
  head = head._replace(template=_PREFIX + head.template)
  return tensors + named_tensors({REWARD_HEAD: trained[REWARD_HEAD]}, [head], dtype)


def adapter_config(
  definition: Definition, family: str, base: str, *, reward: bool
) -> dict[str, Any]:
  """adapter_config.json; `base` is the checkpoint that the adapters change."""
  lora = definition.lora
  targets = [
    name.template.removesuffix(_WEIGHT).rpartition(".")[2] for name in _adapted(definition, family)
  ]
  return {
    "peft_type": "LORA",
    "task_type": "SEQ_CLS" if reward else "CAUSAL_LM",
    "base_model_name_or_path": base,
    "r": lora.rank,
    "lora_alpha": lora.alpha,
    "lora_dropout": lora.dropout,
    "target_modules": targets,
    "modules_to_save": ["score"] if reward else None,
    "bias": "none",
    "fan_in_fan_out": False,
    "use_rslora": False,
    "inference_mode": True,
  }


def _adapted(definition: Definition, family: str) -> list[TensorName]:
  """The weights that have an adapter."""
  names = tensor_names(definition.architecture, family, head=False)
  modules = definition.lora.modules
  return [name for name in names if name.stacked and name.path[-1] in modules]


def _adapter_names(weight: TensorName, definition: Definition) -> tuple[TensorName, TensorName]:
  """The names of a weight's A and B, whose own axes are those of the weight and the rank."""
  module, rank = weight.path[-1], definition.lora.rank
  split = lora_adapters.INPUT_AXES[module]
  inputs, outputs = weight.ours[:split], weight.ours[split:]
  stem = _PREFIX + weight.template.removesuffix(_WEIGHT)
  a, b = lora_adapters.names(module)
  return (
    TensorName(
      path=("layers", a),
      template=f"{stem}.lora_A.weight",
      ours=(*inputs, rank),
      axes=((len(inputs),), tuple(range(len(inputs)))),
      theirs=(rank, math.prod(inputs)),
    ),
    TensorName(
      path=("layers", b),
      template=f"{stem}.lora_B.weight",
      ours=(rank, *outputs),
      axes=(tuple(range(1, 1 + len(outputs))), (0,)),
      theirs=(math.prod(outputs), rank),
    ),
  )
