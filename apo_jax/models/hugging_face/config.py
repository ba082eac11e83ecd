"""A Hugging Face checkpoint's directory, and what its config.json says about the decoder."""

import copy
import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import transformers
from huggingface_hub.errors import (
  HfHubHTTPError,
  HFValidationError,
  LocalEntryNotFoundError,
)

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import ModelConfig
from apo_jax.logs.places import is_bucket
from apo_jax.models.architecture import Architecture
from apo_jax.models.hugging_face.adapters import Adapter, base_name, read_adapter
from apo_jax.models.hugging_face.checkpoint import (
  CONFIG_FILE,
  GENERATION_FILE,
  OPENRLHF_CLASSES,
  Checkpoint,
  describe_place,
)
from apo_jax.models.hugging_face.fields import check_fields, require
from apo_jax.models.hugging_face.json_files import read_json
from apo_jax.models.hugging_face.limits import check_numbers
from apo_jax.models.hugging_face.names import FAMILIES
from apo_jax.models.hugging_face.positions import position_limit
from apo_jax.models.hugging_face.rope import layer_kinds, rotary_dim
from apo_jax.models.hugging_face.text_part import IMAGE_FAMILIES, text_config

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
# Some repositories hold the same weights twice: in folders, or in one file beside the parts.
_OTHER_FILES = ("*/*", "consolidated*")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

# Their feed-forward layers choose among experts, token by token.
MIXTURES = (
  *("dbrx", "deepseek_v2", "deepseek_v3", "deepseek_v32", "ernie4_5_moe", "glm4_moe", "gpt_oss"),
  *("granitemoe", "granitemoehybrid", "granitemoeshared", "jamba", "llama4", "llama4_text"),
  *("minimax", "mixtral", "olmoe", "flex_olmo", "phimoe", "qwen2_moe", "qwen3_moe", "qwen3_next"),
)

_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_GEMMA = ("gemma2", "gemma3_text")
_REWARD_SUFFIX = "ForSequenceClassification"
_POLICY_SUFFIX = "ForCausalLM"


def resolve_directory(name: str, field: str) -> Path:
  """The directory of a checkpoint: `name` itself, or where the hub's files of that name are.

  On a pod every process calls it, and each machine keeps its own copy in the hub's cache.

  Args:
    name: a directory, or a name on the Hugging Face hub, "owner/model" or "owner/model@revision".
    field: the config field that gave it, for errors.

  Raises:
    ConfigError: there is no such directory, and the hub has no such model or cannot be reached.
  """
  if os.path.isdir(name):
    return Path(name)
  wanted = "it must be a directory or the name of a model on the Hugging Face hub, 'owner/model'"
  model, _, revision = name.partition("@")
  if is_bucket(name):
    raise ConfigError(
      f"{field} is {name!r}; weights are read from the file system: copy them there first, as by"
      f" gcloud storage cp -r {name} DIRECTORY, or mount the bucket to read."
    )
  if not _HUB_NAME.fullmatch(model):
    raise ConfigError(f"{field} is {name!r}, which is not a directory; {wanted}.")
  try:
    found = huggingface_hub.snapshot_download(
      model,
      revision=revision or None,
      allow_patterns=list(_FILES),
      ignore_patterns=list(_OTHER_FILES),
    )
  except HFValidationError as error:
    raise ConfigError(f"{field} is {name!r}, which is not a directory; {wanted}.") from error
  except LocalEntryNotFoundError as error:
    raise ConfigError(
      f"{field} is {name!r}, which is neither a directory nor in the hub's cache, and the hub "
      f"cannot be reached; {wanted}."
    ) from error
  except HfHubHTTPError as error:
    reason = str(error).strip().splitlines()[-1].rstrip(".")
    raise ConfigError(
      f"{field} is {name!r}, which the hub does not give ({reason}); {wanted}."
    ) from error
  return Path(found)


def read_architecture(
  directory: Path,
  model: ModelConfig,
  field: str,
  resolve: Callable[[str, str], Path] = resolve_directory,
) -> Checkpoint:
  """What the checkpoint in `directory` is, from its config.json, or from that of adapters' base.

  Code that a checkpoint brings along (`auto_map`) never runs.

  Args:
    directory: of the checkpoint, or of adapters of one (`adapters`).
    model: gives `remat`, the types and `attention`, which no checkpoint says.
    field: the config field that named the checkpoint, for errors.
    resolve: finds the directory of the base that adapters name.

  Raises:
    ConfigError: for a file that cannot be read and for all that the decoder does not compute:
      other families, quantised weights, other activations, biases, rotary scalings or heads, and
      fields that would change the numbers of a family which has them not.
  """
  adapter = read_adapter(directory, field)
  if adapter is None:
    return _read_whole(directory, model, field)
  of_base = f"{field} is {str(directory)!r}, adapters whose base"
  base = resolve(base_name(adapter), of_base)
  if read_adapter(base, of_base) is not None:
    raise ConfigError(f"{of_base} is {str(base)!r}, adapters as well; it must be a whole model.")
  return _with_adapter(_read_whole(base, model, of_base), adapter, field)


def _with_adapter(base: Checkpoint, adapter: Adapter, field: str) -> Checkpoint:
  """The base as its adapters make it; these say whether it is a reward model."""
  task = adapter.settings.get("task_type")
  if base.is_reward and task == "CAUSAL_LM":
    raise ConfigError(
      f"{describe_place(field, base.directory, adapter)}, a sequence classifier; adapters of"
      " task_type 'CAUSAL_LM' change a language model."
    )
  note = f"its adapters in {adapter.directory} are merged into {base.directory}"
  return dataclasses.replace(
    base,
    adapter=adapter,
    is_reward=base.is_reward or task == "SEQ_CLS",
    notes=(note, *base.notes),
  )


def _read_whole(directory: Path, model: ModelConfig, field: str) -> Checkpoint:
  """A checkpoint that is no adapters'."""
  where = f"{describe_place(field, directory, None)}, whose {CONFIG_FILE}"
  given = read_json(directory / CONFIG_FILE, field)
  check_numbers(given, where)
  is_text_part = given.get("model_type") in IMAGE_FAMILIES
  if is_text_part:
    given = text_config(given, where)
    check_numbers(given, where)
  family, supported = given.get("model_type"), ", ".join((*FAMILIES, *IMAGE_FAMILIES))
  if family in MIXTURES:
    raise ConfigError(
      f"{where} has model_type {family!r}, a mixture of experts, of which none can be read;"
      f" supported: {supported}."
    )
  require(family in FAMILIES, where, "model_type", family, supported)
  require(
    not given.get("quantization_config"),
    where,
    "quantization_config",
    given.get("quantization_config"),
    "weights in float32, bfloat16 or float16",
  )
  try:
    config = transformers.CONFIG_MAPPING[family].from_dict(copy.deepcopy(given))
  except Exception as error:  # each family's class fails in its own ways on odd values
    reason = " ".join(str(error).split()).rstrip(".")
    raise ConfigError(f"{where} is not a valid config of {family}: {reason}.") from error
  check_fields(given, config, where)
  return Checkpoint(
    directory=directory,
    family=family,
    architecture=_architecture(config, given, model, where),
    is_reward=_is_reward(given, config.num_labels, where),
    hf_config=given,
    is_text_part=is_text_part,
    positions=position_limit(given, family, getattr(config, "max_position_embeddings", None)),
    notes=_notes(given),
  )


def _notes(given: dict[str, Any]) -> tuple[str, ...]:
  """What config.json says that nothing here follows."""
  notes = []
  if given.get("auto_map"):
    notes.append(f"the code that auto_map in its {CONFIG_FILE} names is not run")
  if given.get("mean") is not None or given.get("std") is not None:
    notes.append(
      f"mean {given.get('mean')} and std {given.get('std')} in its {CONFIG_FILE} normalise rewards"
      " in OpenRLHF; here rewards are as the head gives them, which is as they were trained"
    )
  return tuple(notes)


def read_ends(directory: Path, field: str) -> frozenset[int]:
  """The ids that end a response by the checkpoint's generation_config.json, or its config.json.

  As `transformers.generate` reads them: the second counts where there is no first.

  Args:
    directory: of the checkpoint.
    field: the config field that named the checkpoint, for errors.

  Raises:
    ConfigError: the file cannot be read, or has an eos_token_id that is no id and no list of ids.
  """
  names = [name for name in (GENERATION_FILE, CONFIG_FILE) if (directory / name).exists()]
  if not names:
    return frozenset()
  given = read_json(directory / names[0], field)
  where = f"{field} is {str(directory)!r}, whose {names[0]}"
  named = given.get("eos_token_id")
  ids = named if isinstance(named, list) else [] if named is None else [named]
  require(all(type(id) is int for id in ids), where, "eos_token_id", named, "an id, a list of ids")
  return frozenset(ids)


def _architecture(
  config: transformers.PreTrainedConfig, given: dict[str, Any], model: ModelConfig, where: str
) -> Architecture:
  """The decoder of a family's config; `config` has the family's defaults filled in."""
  family = config.model_type
  name = "hidden_activation" if family in _GEMMA else "hidden_act"
  activation = getattr(config, name)
  require(activation in _ACTIVATIONS, where, name, activation, ", ".join(_ACTIVATIONS))
  for switch in ("attention_bias", "mlp_bias", "use_bidirectional_attention"):
    value = getattr(config, switch, None)
    require(not value, where, switch, value, "false")
  head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
  return Architecture(
    vocab_size=config.vocab_size,
    embed_dim=config.hidden_size,
    heads=config.num_attention_heads,
    kv_heads=config.num_key_value_heads,
    head_dim=head_dim,
    mlp_dim=config.intermediate_size,
    kinds=layer_kinds(config, given, where),
    norm_epsilon=config.rms_norm_eps,
    tied_embeddings=bool(config.tie_word_embeddings),
    remat=model.remat,
    compute_dtype=model.compute_dtype,
    attention=model.attention,
    master_dtype=model.master_dtype,
    frozen_dtype=model.frozen_dtype,
    activation=_ACTIVATIONS[activation],
    rotary_dim=rotary_dim(config, head_dim, where),
    **{"query_scale": head_dim**-0.5, **_switches(config, where)},
  )


def _switches(config: transformers.PreTrainedConfig, where: str) -> dict[str, Any]:
  """What sets a family apart, as fields of `Architecture`."""
  family = config.model_type
  if family == "qwen2":
    # Biases without saying so. Other families' switch would add one to the output too.
    return {"attention_bias": True}
  if family == "qwen3":
    return {"query_key_norms": "head"}
  if family in ("olmo2", "olmo3"):
    return {"query_key_norms": "heads", "pre_norms": False, "post_norms": True}
  if family == "granite":
    names = ("attention_multiplier", "embedding_multiplier", "residual_multiplier")
    for name in (*names, "logits_scaling"):
      value = getattr(config, name)
      require(value > 0, where, name, value, "a number above 0")
    query, embedding, residual = (float(getattr(config, name)) for name in names)
    return {
      "query_scale": query,
      "embedding_scale": embedding,
      "residual_scale": residual,
      "logits_scale": 1 / config.logits_scaling,
    }
  if family not in _GEMMA:
    return {}
  attention_softcap = config.attn_logit_softcapping
  if family == "gemma3_text":
    allowed = attention_softcap is None  # the library has the field, and does not read it
    require(allowed, where, "attn_logit_softcapping", attention_softcap, "null")
  return {
    "query_key_norms": "head" if family == "gemma3_text" else "none",
    "query_scale": config.query_pre_attn_scalar**-0.5,
    "unit_offset_norms": True,
    "post_norms": True,
    "embedding_scale": config.hidden_size**0.5,
    "attention_softcap": float(attention_softcap or 0.0),
    "logits_softcap": float(config.final_logit_softcapping or 0.0),
  }


def _is_reward(given: dict[str, Any], labels: int, where: str) -> bool:
  """Whether the checkpoint is a reward model; a file that names no class is a language model."""
  classes = given.get("architectures") or [_POLICY_SUFFIX]
  if classes[0] in OPENRLHF_CLASSES:
    return True
  is_reward = classes[0].endswith(_REWARD_SUFFIX)
  known = is_reward or classes[0].endswith(_POLICY_SUFFIX)
  require(known, where, "architectures", classes, f"…{_POLICY_SUFFIX}, …{_REWARD_SUFFIX}")
  if is_reward:
    require(labels == 1, where, "num_labels", labels, "1, a reward")
  return is_reward
