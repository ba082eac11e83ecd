"""Adapters as the `peft` library reads them: its names, its layout and its adapter_config.json.

PEFT keeps A as [rank, inputs] and B as [outputs, rank] of each adapted projection, and the
change of the weight is alpha / rank * B A, as here. Where a family keeps several projections in one
tensor, theirs is one adapter of as many times the rank and alpha: their A below each other, and
each B in the rows of its projection and the columns of its A, with zeros elsewhere.
"""

import math
from typing import Any

from apo_jax.export.weights import DataType, Tensor, named_tensors
from apo_jax.models import lora as lora_adapters
from apo_jax.models.definition import Definition, Parameters
from apo_jax.models.hugging_face.names import TensorName, by_tensor, reward_head_name, tensor_names
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
    name for parts in _adapted(definition, family) for name in _adapter_names(parts, definition)
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
  modules = {
    parts[0].template.removesuffix(_WEIGHT).rpartition(".")[2]: len(parts)
    for parts in _adapted(definition, family)
  }
  fused = {module: count for module, count in modules.items() if count > 1}
  return {
    "peft_type": "LORA",
    "task_type": "SEQ_CLS" if reward else "CAUSAL_LM",
    "base_model_name_or_path": base,
    "r": lora.rank,
    "lora_alpha": lora.alpha,
    "lora_dropout": lora.dropout,
    "target_modules": [*modules],
    "rank_pattern": {module: count * lora.rank for module, count in fused.items()},
    "alpha_pattern": {module: count * lora.alpha for module, count in fused.items()},
    "modules_to_save": ["score"] if reward else None,
    "bias": "none",
    "fan_in_fan_out": False,
    "use_rslora": False,
    "inference_mode": True,
  }


def _adapted(definition: Definition, family: str) -> list[list[TensorName]]:
  """The weights that have an adapter, those of one tensor together."""
  names = tensor_names(definition.architecture, family, head=False)
  modules = definition.lora.modules
  return by_tensor(name for name in names if name.stacked and name.path[-1] in modules)


def _adapter_names(parts: list[TensorName], definition: Definition) -> list[TensorName]:
  """The names of A and B of the weights of one tensor, all A first.

  Their own axes are those of the weight and the rank.
  """
  rank = definition.lora.rank
  stem = _PREFIX + parts[0].template.removesuffix(_WEIGHT)
  ranks = rank * len(parts)
  below, above = [], []
  for number, weight in enumerate(parts):
    split = lora_adapters.INPUT_AXES[weight.path[-1]]
    inputs, outputs = weight.ours[:split], weight.ours[split:]
    a, b = lora_adapters.names(weight.path[-1])
    below.append(
      TensorName(
        path=("layers", a),
        template=f"{stem}.lora_A.weight",
        ours=(*inputs, rank),
        axes=((len(inputs),), tuple(range(len(inputs)))),
        theirs=(rank, math.prod(inputs)),
        begin=(number * rank, 0),
        whole=(ranks, math.prod(inputs)),
      )
    )
    above.append(
      TensorName(
        path=("layers", b),
        template=f"{stem}.lora_B.weight",
        ours=(rank, *outputs),
        axes=(tuple(range(1, 1 + len(outputs))), (0,)),
        theirs=(math.prod(outputs), rank),
        begin=(weight.part[0].start, number * rank),
        whole=(weight.tensor_shape[0], ranks),
      )
    )
  return below + above
